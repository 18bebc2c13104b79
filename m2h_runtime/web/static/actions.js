// Snapshot and record.

import { $, text, toast, bytes, duration } from "./page.js";

export function connectActions() {
  $("snapshot").addEventListener("click", (event) => save(event.currentTarget, "snapshot.png"));
  $("arrays").addEventListener("click", (event) => save(event.currentTarget, "snapshot.npz"));
  $("record").addEventListener("click", record);
}

async function save(button, url) {
  button.disabled = true;
  try {
    const answer = await fetch(url);
    if (!answer.ok) throw new Error((await answer.text()).trim());
    const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1] ?? url;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    toast(`saved ${name}`);
  } catch (error) {
    toast(`no snapshot: ${error.message}`, true);
  } finally {
    button.disabled = false;
  }
}

async function record() {
  const on = $("record").getAttribute("aria-pressed") === "true";
  $("record").disabled = true;
  try {
    const answer = await fetch("record", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ record: on ? null : $("record-kind").value }),
    });
    if (!answer.ok) throw new Error((await answer.text()).trim());
    showRecording(await answer.json());
  } catch (error) {
    toast(`recording: ${error.message}`, true);
  } finally {
    $("record").disabled = false;
  }
}

export function showRecording({ folder, on, last }) {
  $("record").setAttribute("aria-pressed", String(!!on));
  $("record-kind").disabled = !!on;
  text("record-text", on ? `Stop ${duration(on.duration_s)}` : "Record");
  $("recording").className = !on && last?.error ? "warning" : on ? "" : "muted";
  text("recording", said(folder, on, last));
}

function said(folder, on, last) {
  if (on) return `Recording ${folder}/${on.name} on the robot: ${duration(on.duration_s)}, ${bytes(on.bytes)}`;
  if (!last) return `Nothing is recorded. Recordings go to ${folder}/ on the robot.`;
  const what = `${folder}/${last.name}: ${duration(last.duration_s)}, ${bytes(last.bytes)}`;
  return last.error ? `${folder}/${last.name}: ${last.error}` : `Saved on the robot: ${what}`;
}
