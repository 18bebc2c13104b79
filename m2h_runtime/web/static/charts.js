// The last minute as small charts.

import { $, text, fill, make } from "./page.js";

const WINDOW_MS = 60000;
const STAGES = ["capture", "queue", "preprocess", "engine", "hand-out"];
const RATE_MS = 5000;

/** What the status said in the last minute. */
export class History {
  constructor() {
    this.points = [];
  }

  /** The minute before this page was opened. */
  begin(chart) {
    const now = performance.now();
    this.points = chart.map((figures) => ({ ...figures, ms: now - 1000 * figures.before_s }));
  }

  add(status) {
    if (status.phase === "starting" && !status.frames) return;
    this.points.push({ ...status, ms: performance.now() });
    while (this.points.length && this.points[0].ms < performance.now() - WINDOW_MS - 1000) this.points.shift();
  }

  /** How many per second `count` of a status grew by lately. */
  rate(count) {
    const now = performance.now();
    const recent = this.points.filter((point) => point.frames && point.ms > now - RATE_MS);
    if (recent.length < 2) return 0;
    const [first, last] = [recent[0], recent[recent.length - 1]];
    return Math.max(0, (1000 * (count(last) - count(first))) / (last.ms - first.ms));
  }
}

export function drawCharts(history, status) {
  const { points } = history;
  const live = points.some((point) => point.age_ms);
  text("now-fps", status.fps ? status.fps.toFixed(1) : "0");
  draw($("chart-fps"), points, [{ color: "--chart-1", of: (p) => p.fps, filled: true }]);
  text("now-age", status.age_ms ? `${status.age_ms.p50.toFixed(1)} / ${status.age_ms.p99.toFixed(1)}` : "");
  $("chart-age").parentElement.hidden = !live;
  if (live)
    draw($("chart-age"), points, [
      { color: "--chart-2", of: (p) => p.age_ms?.p99 },
      { color: "--chart-1", of: (p) => p.age_ms?.p50 },
    ]);
  drawStages(points, status.stages_ms);
}

function drawStages(points, now) {
  // Of a recording the queue is mostly waiting for the engine; it would hide the work.
  const live = points.some((point) => point.age_ms);
  const stages = STAGES.filter((stage) => live || stage !== "queue");
  const upTo = (stage) => (p) =>
    p.stages_ms && stages.slice(0, stages.indexOf(stage) + 1).reduce((sum, name) => sum + p.stages_ms[name], 0);
  const series = stages.map((stage) => ({
    color: `--stage-${STAGES.indexOf(stage) + 1}`,
    of: upTo(stage),
    area: true,
  }));
  draw($("chart-stages"), points, series.reverse());
  const total = now ? stages.reduce((sum, stage) => sum + now[stage], 0) : 0;
  text("now-stages", now ? total.toFixed(1) : "");
  fill("stages", stages.join(), () =>
    stages.map((stage) =>
      make("li", {}, make("i", { class: `swatch stage-${STAGES.indexOf(stage) + 1}` }), stage, make("data", { id: `ms-${stage}` })),
    ),
  );
  for (const stage of stages) text(`ms-${stage}`, now ? now[stage].toFixed(now[stage] < 10 ? 2 : 1) : "–");
}

function draw(canvas, points, series) {
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width || !height) return;
  const ratio = window.devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, { width: wide, height: high });
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const values = series.flatMap(({ of }) => points.map(of)).filter((value) => value != null);
  const top = ceiling(Math.max(0, ...values));
  const left = 30;
  const now = performance.now();
  const x = (ms) => width - ((now - ms) / WINDOW_MS) * (width - left);
  const y = (value) => height - 3 - (value / top) * (height - 10);
  drawGrid(context, color, top, left, width, y);
  context.save();
  context.beginPath();
  context.rect(left, 0, width - left, height);
  context.clip();
  for (const one of series) drawSeries(context, color(one.color), points, one, x, y);
  context.restore();
}

function drawGrid(context, color, top, left, width, y) {
  context.font = "10px system-ui, sans-serif";
  context.textAlign = "right";
  context.textBaseline = "middle";
  context.lineWidth = 1;
  for (const value of [0, top / 2, top]) {
    context.strokeStyle = color("--line");
    context.beginPath();
    context.moveTo(left, Math.round(y(value)) + 0.5);
    context.lineTo(width, Math.round(y(value)) + 0.5);
    context.stroke();
    context.fillStyle = color("--muted");
    const shown = String(Number(value.toPrecision(3)));
    context.fillText(shown, left - 5, Math.max(6, Math.min(y(0) - 3, y(value))));
  }
}

/** Runs of points with a value; a gap stays a gap. */
function drawSeries(context, color, points, { of, area, filled }, x, y) {
  let run = [];
  const flush = () => {
    if (run.length > 1) stroke(context, color, run, y(0), area, filled);
    run = [];
  };
  for (const point of points) {
    const value = of(point);
    if (value == null) flush();
    else run.push([x(point.ms), y(value)]);
  }
  flush();
}

function stroke(context, color, run, base, area, filled) {
  context.beginPath();
  run.forEach(([px, py], index) => (index ? context.lineTo(px, py) : context.moveTo(px, py)));
  context.strokeStyle = context.fillStyle = color;
  context.lineWidth = 1.5;
  context.lineJoin = "round";
  if (!area) context.stroke();
  if (!area && !filled) return;
  context.lineTo(run[run.length - 1][0], base);
  context.lineTo(run[0][0], base);
  context.closePath();
  context.globalAlpha = area ? 1 : 0.14;
  context.fill();
  context.globalAlpha = 1;
}

/** A round number that is not below `value`. */
function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((n) => n * power).find((n) => n >= value * 1.02) ?? 10 * power;
}
