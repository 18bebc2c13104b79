// The live views. The robot sends small pictures; colours are added here.

import { $, text, make } from "./page.js";

const PANES = ["rgb", "depth", "semantics", "normals", "edges"];
const STAGE_WIDTH = 640; // the overlay is drawn at least this wide
const OLD_MS = 2000; // and three times as old as pictures usually are
const NO_DEPTH = 4; // levels of depth below this are none,
const FARTHEST = 8; // and from here to 255 it is inverse depth

export class Views {
  /** @param announce called with the panes that are to be seen now. */
  constructor(announce) {
    this.tell = announce;
    this.figures = [...document.querySelectorAll(".pane")];
    this.visible = new Set(); // the observer tells it at once
    this.canvases = { rgb: document.createElement("canvas") };
    for (const figure of this.figures) this.canvases[figure.dataset.pane] = figure.querySelector("canvas");
    this.scratch = document.createElement("canvas");
    this.values = {}; // by pane, what was sent: one byte a pixel
    this.palettes = {};
    this.labels = null;
    this.maps = null;
    this.shownMs = this.everyMs = 0;
    this.watchVisibility();
    $("overlay").addEventListener("change", () => (this.announce(), this.drawStage()));
    $("opacity").addEventListener("input", () => this.drawStage());
    $("color-map").addEventListener("change", () => this.recolor());
    document.addEventListener("visibilitychange", () => this.announce());
  }

  watchVisibility() {
    const observer = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const name = entry.target.dataset.pane;
        if (entry.isIntersecting) this.visible.add(name);
        else this.visible.delete(name);
      }
      this.announce();
    });
    for (const figure of this.figures) observer.observe(figure);
  }

  /** Names, colours and colour maps of this run. */
  begin(hello) {
    this.labels = hello.labels;
    this.maps = hello.color_maps;
    const table = new Uint32Array(256).fill(0xff000000);
    hello.labels.colors.forEach(([r, g, b], id) => (table[id] = rgba(r, g, b)));
    this.palettes.semantics = table;
    this.palettes.edges = Uint32Array.from({ length: 256 }, (_, v) => rgba(v, v, v));
    text("label-space", hello.labels.name);
    this.recolor();
  }

  get overlay() {
    return document.querySelector("input[name=overlay]:checked").value;
  }

  /** Tell the robot what is to be seen; the rest is not even encoded. */
  announce() {
    const panes = new Set([...this.visible].filter((name) => name !== "stage"));
    if (this.visible.has("stage")) {
      panes.add("rgb");
      if (this.overlay !== "none") panes.add(this.overlay);
    }
    this.tell(document.hidden ? [] : PANES.filter((name) => panes.has(name)));
  }

  /** One message: uint32 length, JSON header, pictures. */
  async show(buffer) {
    const length = new DataView(buffer).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    let at = 4 + length;
    const parts = header.pictures.map(([name, size]) => {
      const kind = name === "semantics" ? "image/png" : "image/jpeg";
      const blob = new Blob([new Uint8Array(buffer, at, size)], { type: kind });
      at += size;
      return decoded(name, blob);
    });
    for (const { name, bitmap } of await Promise.all(parts)) this.take(name, bitmap);
    document.documentElement.style.setProperty("--ratio", header.size[1] / header.size[0]);
    if ("near_m" in header) this.showScale(header);
    if ("labels" in header) this.showLegend(header.labels);
    const now = performance.now();
    this.everyMs = this.shownMs ? 0.8 * this.everyMs + 0.2 * (now - this.shownMs) : 0;
    this.shownMs = now;
    this.drawStage();
  }

  take(name, bitmap) {
    const canvas = this.canvases[name];
    if (name === "rgb" || name === "normals") {
      resize(canvas, bitmap.width, bitmap.height).drawImage(bitmap, 0, 0);
    } else {
      this.values[name] = this.bytesOf(bitmap);
      this.color(name);
    }
    bitmap.close();
  }

  /** The red channel of a gray picture. */
  bytesOf(bitmap) {
    const context = resize(this.scratch, bitmap.width, bitmap.height, { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    const { data, width, height } = context.getImageData(0, 0, bitmap.width, bitmap.height);
    const values = new Uint8Array(width * height);
    for (let i = 0; i < values.length; i++) values[i] = data[4 * i];
    return { values, width, height };
  }

  color(name) {
    const { values, width, height } = this.values[name];
    const palette = this.palettes[name];
    if (!palette) return;
    const image = new ImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < pixels.length; i++) pixels[i] = palette[values[i]];
    resize(this.canvases[name], width, height).putImageData(image, 0, 0);
  }

  recolor() {
    if (!this.maps) return;
    const map = this.maps[$("color-map").value];
    const table = new Uint32Array(256);
    for (let level = 0; level < 256; level++) {
      const i = Math.round((255 * Math.max(0, level - FARTHEST)) / (255 - FARTHEST));
      table[level] = level < NO_DEPTH ? 0xff000000 : rgba(map[3 * i], map[3 * i + 1], map[3 * i + 2]);
    }
    this.palettes.depth = table;
    const ramp = resize($("ramp"), 128, 1);
    for (let x = 0; x < 128; x++) {
      const i = 255 - 2 * x;
      ramp.fillStyle = `rgb(${map[3 * i]}, ${map[3 * i + 1]}, ${map[3 * i + 2]})`;
      ramp.fillRect(x, 0, 1, 1);
    }
    for (const name of Object.keys(this.values)) this.color(name);
    this.drawStage();
  }

  drawStage() {
    const opacity = Number($("opacity").value);
    text("opacity-value", `${opacity} %`);
    const { rgb, stage } = this.canvases;
    if (!this.shownMs) return;
    const width = Math.max(rgb.width, STAGE_WIDTH);
    const context = resize(stage, width, Math.round((width * rgb.height) / rgb.width));
    context.globalAlpha = 1;
    context.globalCompositeOperation = "source-over";
    context.imageSmoothingEnabled = true;
    context.drawImage(rgb, 0, 0, stage.width, stage.height);
    if (this.overlay === "none") return;
    context.globalAlpha = opacity / 100;
    if (this.overlay === "edges") context.globalCompositeOperation = "screen"; // black adds nothing
    context.imageSmoothingEnabled = this.overlay !== "semantics"; // classes are not to be mixed
    context.drawImage(this.canvases[this.overlay], 0, 0, stage.width, stage.height);
  }

  showScale({ near_m, far_m }) {
    text("near", `${near_m.toFixed(near_m < 10 ? 2 : 1)} m`);
    text("far", `${far_m.toFixed(far_m < 10 ? 2 : 1)} m`);
  }

  /** Class names by how much of the picture they cover. */
  showLegend(labels) {
    if (!this.labels) return;
    const list = $("legend");
    while (list.children.length < labels.length) {
      const swatch = make("i", { class: "swatch", "aria-hidden": "true" });
      list.append(make("li", {}, swatch, make("span"), make("data")));
    }
    [...list.children].forEach((item, index) => {
      item.hidden = index >= labels.length;
      if (item.hidden) return;
      const [id, share] = labels[index];
      const [swatch, name, data] = item.children;
      const [r, g, b] = this.labels.colors[id] ?? [0, 0, 0];
      const percent = share < 0.01 ? "< 1 %" : `${Math.round(100 * share)} %`;
      swatch.style.background = `rgb(${r}, ${g}, ${b})`;
      if (name.textContent !== (this.labels.classes[id] ?? `id ${id}`))
        name.textContent = this.labels.classes[id] ?? `id ${id}`;
      if (data.textContent !== percent) data.textContent = percent;
    });
  }

  showAge(connected) {
    const ageMs = performance.now() - this.shownMs;
    const old = this.shownMs > 0 && ageMs > Math.max(OLD_MS, 3 * this.everyMs) && !document.hidden;
    document.body.classList.toggle("old", old || !connected);
    text("picture-age", old ? `picture is ${(ageMs / 1000).toFixed(0)} s old` : "");
  }
}

async function decoded(name, blob) {
  return { name, bitmap: await createImageBitmap(blob, { colorSpaceConversion: "none" }) };
}

function resize(canvas, width, height, options) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  return canvas.getContext("2d", options);
}

function rgba(r, g, b) {
  return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0; // in memory: r, g, b, a
}
