// The point whose values are read: by mouse, by finger or with the arrow keys, the same in every view.

import { $, text, make } from "./page.js";

const STEP = 0.01;
const PERIOD_MS = 60;

export class Probe {
  /** @param ask called with [across, down], shares of the image. */
  constructor(ask) {
    this.ask = ask;
    this.at = null;
    this.held = false;
    this.labels = null;
    this.askedMs = 0;
    this.crosses = [...document.querySelectorAll(".frame")].map((frame) => {
      const cross = make("div", { class: "cross", hidden: "" }, make("span", { class: "tip" }));
      frame.append(cross);
      this.listen(frame);
      return cross;
    });
  }

  begin(labels) {
    this.labels = labels;
  }

  listen(frame) {
    frame.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse" && !this.held) this.move(point(frame, event));
    });
    frame.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse" && !this.held) this.move(null);
    });
    frame.addEventListener("click", (event) => {
      this.held = event.pointerType !== "mouse" || !this.held;
      this.move(point(frame, event));
    });
    frame.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape") {
      this.held = false;
      this.move(null);
    } else if (step) {
      event.preventDefault();
      this.held = true;
      this.move((this.at ?? [0.5, 0.5]).map((share, axis) => clamp(share + STEP * step[axis])));
    }
  }

  move(at) {
    this.at = at;
    for (const cross of this.crosses) {
      cross.hidden = !at;
      cross.classList.toggle("held", this.held);
      if (at) Object.assign(cross.style, { left: `${100 * at[0]}%`, top: `${100 * at[1]}%` });
      cross.classList.toggle("flip", !!at && at[0] > 0.6);
      cross.classList.toggle("low", !!at && at[1] > 0.85);
    }
    if (at) this.refresh();
    else this.forget();
  }

  /** Ask for the values, but not with every pixel that the mouse moves. */
  refresh() {
    if (!this.at) return;
    const wait = this.askedMs + PERIOD_MS - performance.now();
    clearTimeout(this.timer);
    if (wait > 0) {
      this.timer = setTimeout(() => this.refresh(), wait);
      return;
    }
    this.askedMs = performance.now();
    this.ask(this.at);
  }

  forget() {
    clearTimeout(this.timer);
    $("reading").hidden = true;
    $("reading-none").hidden = false;
  }

  show(reading) {
    if (!this.at) return;
    $("reading").hidden = false;
    $("reading-none").hidden = true;
    const depth = reading.depth_m ? `${reading.depth_m.toFixed(reading.depth_m < 10 ? 2 : 1)} m` : "none";
    const name = this.labels?.classes[reading.label] ?? `id ${reading.label}`;
    const sure = `${Math.round(100 * reading.confidence)} %`;
    text("reading-depth", depth);
    text("reading-label", name);
    text("reading-confidence", sure);
    text("reading-normal", reading.normal.map((n) => (n < 0 ? "−" : "+") + Math.abs(n).toFixed(2)).join(" "));
    text("reading-edge", `${Math.round(100 * reading.edge)} %`);
    for (const cross of this.crosses) cross.firstChild.textContent = `${depth} · ${name} ${sure}`;
  }
}

const clamp = (share) => Math.min(1, Math.max(0, share));

function point(frame, event) {
  const box = frame.getBoundingClientRect();
  return [clamp((event.clientX - box.left) / box.width), clamp((event.clientY - box.top) / box.height)];
}
