// Health, drops, engine and source as text.

import { $, text, fill, make } from "./page.js";

const LEVELS = { ok: "OK", degraded: "Degraded", failed: "Failed" };

function showLevel(level, word, said) {
  $("badge").className = `badge ${level}`;
  text("badge-level", word);
  text("badge-text", said);
  document.title = `${level === "ok" ? "" : `${word}: `}m2h`;
}

/** Nothing is known any more: what was green is so no longer. */
export function showSilence(word, said) {
  showLevel("unknown", word, "");
  $("health").className = "health unknown";
  text("health-level", word);
  text("health-text", said);
}

export function showStatus(status, history) {
  if (!status.health) {
    showLevel("unknown", "starting", "");
    return;
  }
  showHealth(status.health);
  text("key-fps", status.fps.toFixed(1));
  showAge(status);
  const lost = (point) => (point.drops ?? []).reduce((sum, drop) => sum + drop.frames, 0);
  text("key-drops", history.rate(lost).toFixed(1));
  showDrops(status, history);
}

function showAge({ age_ms: age, stages_ms: stages }) {
  text("key-age-name", age ? "age p50 / p99" : "engine");
  if (age) text("key-age", `${age.p50.toFixed(0)} / ${age.p99.toFixed(0)}`);
  else text("key-age", stages ? stages.engine.toFixed(1) : "–");
}

function showHealth({ level, parts, transitions }) {
  const ill = parts.filter((part) => part.level !== "ok");
  const said = ill.map((part) => `${part.part}: ${part.text}`).join("; ");
  showLevel(level, LEVELS[level], said);
  $("health").className = `health ${level}`;
  text("health-level", LEVELS[level]);
  text("health-text", ill.length ? ill[0].text : "All parts are well.");
  fill("parts", JSON.stringify(parts), () =>
    parts.map((part) =>
      make(
        "li",
        { class: part.level },
        make("span", { class: "sign", "aria-hidden": "true" }),
        make("span", { class: "part" }, part.part),
        make("span", { class: "level" }, LEVELS[part.level]),
        make("span", { class: "why" }, part.text),
      ),
    ),
  );
  text("changes-count", transitions.length ? String(transitions.length) : "none");
  const key = JSON.stringify(transitions.map((change) => ({ ...change, before_s: 0 })));
  fill("changes", key, () => [...transitions].reverse().map(changed));
}

function changed(change) {
  const when = new Date(Date.now() - 1000 * change.before_s);
  return make(
    "li",
    { class: change.level },
    make("time", { datetime: when.toISOString() }, when.toLocaleTimeString([], { hour12: false })),
    make("span", { class: "sign", "aria-hidden": "true" }),
    make("span", {}, `${change.part} ${LEVELS[change.level]}${change.text ? `: ${change.text}` : ""}`),
  );
}

function showDrops({ frames, drops }, history) {
  const rows = [
    ["perceived", frames.perceived, (point) => point.frames.perceived],
    ...drops.map((drop) => [
      `dropped (${drop.stage}): ${drop.reason}`,
      drop.frames,
      (point) => point.drops.find((other) => other.stage === drop.stage && other.reason === drop.reason)?.frames ?? 0,
    ]),
  ];
  const body = $("drops");
  while (body.children.length < rows.length) body.append(make("tr", {}, make("th", { scope: "row" }), make("td"), make("td")));
  while (body.children.length > rows.length) body.lastChild.remove();
  rows.forEach(([name, count, of], index) => {
    const cells = body.children[index].children;
    const shown = [name, String(count), history.rate(of).toFixed(1)];
    shown.forEach((value, column) => {
      if (cells[column].textContent !== value) cells[column].textContent = value;
    });
  });
}

export function showCards({ engine, source, labels }) {
  const [height, width] = engine.size;
  text("title-engine", `${engine.name} ${width}×${height} · ${engine.backend}`);
  $("random").hidden = engine.weights !== null;
  facts("engine", {
    network: `${engine.name}, ${width}×${height}`,
    precision: engine.numerics ? `${engine.precision}, computes in ${engine.numerics}` : engine.precision,
    backend: engine.backend,
    why: engine.choice,
    weights: engine.weights ?? "RANDOM, not trained",
    labels: `${labels.name}, ${engine.classes} classes`,
    cost: engine.gflop ? `${engine.gflop} GFLOP a frame` : "",
    "made for": engine.target,
    id: engine.engine_id,
  });
  showParity(engine.parity);
  facts("source", {
    source: source.description,
    kind: source.live ? "live: the newest frame wins" : "recording: every frame counts",
    rate: source.fps ? `${Number(source.fps.toFixed(2))} FPS, as it says` : "not known",
    IMU: source.imu ? "yes" : "none",
  });
}

function showParity({ verdict, reference, run }) {
  $("verdict").className = verdict;
  text("verdict", { pass: "passed", fail: "FAILED", unverified: "not verified" }[verdict] ?? verdict);
  const figures = Object.keys(run?.mean ?? {});
  const row = (kind, ...cells) => make("tr", {}, ...cells.map((cell, i) => make(i ? kind : "th", {}, cell)));
  const short = (value) => (value == null ? "" : String(Number(value.toPrecision(3))));
  $("parity").replaceChildren(
    row("th", "figure", "mean", "worst"),
    ...figures.map((name) => row("td", name.replaceAll("_", " "), short(run.mean[name]), short(run.worst[name]))),
  );
  $("parity").hidden = !figures.length;
  const on = run ? `${run.backend} on ${run.images} image${run.images === 1 ? "" : "s"}` : "this backend was not among those compared";
  text("reference", `Against ${reference}: ${on}.`);
}

function facts(id, rows) {
  const shown = Object.entries(rows).filter(([, value]) => value);
  fill(id, JSON.stringify(shown), () =>
    shown.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))),
  );
}
