"use strict";

// ---------------------------------------------------------------- masks

const TIE = 1e-9; // as in det_distill/masks.py: exact ties are off, however rounded

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** The bits of `count` cells, as 0 and 1. */
function bits(text, count) {
  const packed = bytes(text);
  return Uint8Array.from({ length: count }, (_, i) => (packed[i >> 3] >> (7 - (i & 7))) & 1);
}

/** Length of the overlap of [low, high] with an anchor's [first, last], moved by `stride` a cell, for `count` cells. */
function overlaps(low, high, first, last, stride, count) {
  return Float64Array.from({ length: count }, (_, cell) =>
    Math.max(0, Math.min(last + cell * stride, high) - Math.max(first + cell * stride, low)));
}

const largest = (values) => values.reduce((a, b) => Math.max(a, b), 0);

/** How one box meets each anchor of a level: overlaps along x and y, and the areas of both together. */
function meetings(box, level, [height, width]) {
  const [x1, y1, x2, y2] = box;
  const area = Math.max(0, x2 - x1) * Math.max(0, y2 - y1);
  const [sx, sy] = level.stride;
  // Anchors of the padding are no anchors.
  const columns = Math.min(level.size[1], Math.ceil(width / sx));
  const rows = Math.min(level.size[0], Math.ceil(height / sy));
  return level.anchors.map(([a1, b1, a2, b2]) => ({
    x: overlaps(x1, x2, a1, a2, sx, columns),
    y: overlaps(y1, y2, b1, b2, sy, rows),
    areas: area + (a2 - a1) * (b2 - b1),
  }));
}

/** The best IoU of a box with any anchor of a level. */
function bestOf(met) {
  return largest(met.map(({ x, y, areas }) => {
    const both = largest(x) * largest(y);
    return both / (areas - both);
  }));
}

/** Mark the cells with IoU = I / (S - I) > limit, that is I > limit S / (1 + limit). */
function mark(on, width, met, limit) {
  for (const { x, y, areas } of met) {
    const least = ((limit * areas) / (1 + limit)) * (1 + TIE);
    const widest = largest(x);
    const first = x.findIndex((part) => part > 0);
    y.forEach((part, row) => {
      if (widest * part <= least) return; // no cell of this row can be on
      for (let j = first; j < x.length && x[j] > 0; j++) if (x[j] * part > least) on[row * width + j] = 1;
    });
  }
}

/** AnchorIoUMask: per level the cells on, as 0 and 1. */
function anchorMask(image, psi, assignment, finest) {
  const { levels } = image;
  if (psi === 0) return levels.map((level) => level.cells);
  const masks = levels.map((level) => new Uint8Array(level.cells.length));
  for (const box of image.boxes) {
    const [w, h] = [Math.max(0, box[2] - box[0]), Math.max(0, box[3] - box[1])];
    const home = Math.min(Math.max(Math.floor(Math.log2(Math.sqrt(w * h) / finest)), 0), levels.length - 1);
    const met = levels.map((level) => meetings(box, level, image.size));
    const best = met.map(bestOf);
    levels.forEach((level, i) => {
      if (assignment === "size" && i !== home) return;
      mark(masks[i], level.size[1], met[i], psi * (assignment === "joint" ? largest(best) : best[i]));
    });
  }
  return masks.map((mask, i) => mask.map((on, cell) => on & levels[i].cells[cell]));
}

const count = (mask) => mask.reduce((sum, on) => sum + on, 0);
const both = (a, b) => a.reduce((sum, on, i) => sum + (on & b[i]), 0);

// ---------------------------------------------------------------- state

const data = JSON.parse(document.getElementById("data").textContent);
const id = (name) => document.getElementById(name);
const methods = [{ title: "AnchorIoUMask", kind: "anchor" }, ...data.masks.map(listed)];

/** A map of shares is shown as heat, from a threshold on. */
function listed(title, index) {
  const heat = data.images[0].masks[index].some((one) => one?.bytes);
  return { title, kind: heat ? "map" : "mask", index };
}

const ASSIGNMENTS = { size: "the level of its size", joint: "where its best anchor is", every: "every level" };
const TINTS = { A: "#f06e14", B: "#00aa78" }; // on photos, in either scheme
const state = { image: 0, level: 0 };

for (const image of data.images) {
  for (const level of image.levels) level.cells = bits(level.allowed, level.size[0] * level.size[1]);
  image.masks = image.masks.map((mask) => mask.map((one, i) =>
    one && (one.bytes ? bytes(one.bytes) : bits(one.bits, image.levels[i].cells.length))));
}

/** A new element with text and a class. */
function made(tag, text = "", name = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (name) element.className = name;
  return element;
}

const options = (select, titles) => select.append(...titles.map((title, value) => new Option(title, value)));

/** One side of the comparison. */
class Panel {
  constructor(letter, method) {
    this.letter = letter;
    const root = id("panel").content.firstElementChild.cloneNode(true);
    root.classList.add(letter);
    root.setAttribute("aria-label", `Mask ${letter}`);
    root.querySelector(".badge").textContent = letter;
    this.root = root;
    this.part = (name) => root.querySelector(`[data-part="${name}"]`);
    for (const name of ["method", "psi", "assignment", "least"]) {
      const input = this.part(name);
      input.id = `${name}-${letter}`;
      input.addEventListener("input", refresh);
      const label = this.part(`${name}-label`);
      if (label) label.htmlFor = input.id;
      else input.setAttribute("aria-label", `Method of mask ${letter}`);
    }
    options(this.part("method"), methods.map((one) => one.title));
    options(this.part("assignment"), data.assignments.map((name) => ASSIGNMENTS[name]));
    this.part("method").value = method;
    this.part("psi").value = data.psi;
    this.part("assignment").value = data.assignments.indexOf(data.assignment);
    this.canvas = root.querySelector("canvas");
    id("pair").append(root);
  }

  get method() { return methods[this.part("method").value]; }

  get title() {
    const { kind, title } = this.method;
    const set = { anchor: `, ψ ${Number(this.part("psi").value)}`, map: ` from ${Number(this.part("least").value)}` };
    return title + (set[kind] ?? "");
  }

  /** Per level the cells on, or null where this method has no say. */
  masks(image) {
    const { kind, index } = this.method;
    if (kind === "mask") return image.masks[index];
    const least = 255 * Number(this.part("least").value);
    if (kind === "map") {
      return image.masks[index].map((map, i) => map?.map((value, cell) => (value >= least) & image.levels[i].cells[cell]));
    }
    const assignment = data.assignments[this.part("assignment").value];
    return anchorMask(image, Number(this.part("psi").value), assignment, data.finest);
  }

  refresh(image) {
    for (const element of this.root.querySelectorAll("[data-for]")) element.hidden = element.dataset.for !== this.method.kind;
    this.part("psi-value").textContent = Number(this.part("psi").value).toFixed(2);
    this.part("least-value").textContent = Number(this.part("least").value).toFixed(2);
    this.on = this.masks(image);
    const mask = this.on[state.level];
    const level = image.levels[state.level];
    const heat = this.method.kind === "map" ? image.masks[this.method.index][state.level] : null;
    draw(this.canvas, image, level, mask, heat, TINTS[this.letter]);
    const grid = `${level.size[1]} × ${level.size[0]} cells of ${level.stride[0]} px`;
    const said = mask ? `${count(mask)} of ${mask.length} cells on` : "not compared on this level";
    this.part("caption").replaceChildren(made("strong", said), ` · ${grid}`);
    this.canvas.setAttribute("aria-label", `${image.name} with ${this.title}: ${said}`);
  }
}

// ---------------------------------------------------------------- drawing

/** The photo, cells off darkened, cells on tinted (the hotter the more) and outlined, then the boxes. */
function draw(canvas, image, level, mask, heat, tint) {
  const [height, width] = image.padded;
  const zoom = Math.max(1, Math.ceil(1100 / Math.max(width, height)));
  [canvas.width, canvas.height] = [width * zoom, height * zoom];
  const pen = canvas.getContext("2d");
  pen.scale(zoom, zoom);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(image.element, 0, 0);
  const opacity = Number(id("opacity").value);
  if (mask) {
    cells(pen, level, mask, 0, `rgb(16 18 22 / ${0.6 * opacity})`);
    if (heat) warm(pen, level, mask, heat, tint, opacity);
    else cells(pen, level, mask, 1, tint, opacity);
    rim(pen, level, mask, tint, 3 / zoom);
  }
  if (!id("outlines").checked) return;
  const line = Math.max(width, height) / 400;
  image.ignored.forEach((box) => outline(pen, box, "#9a9a9a", line, [3 * line, 2 * line]));
  image.boxes.forEach((box, i) => outline(pen, box, image.colours[i], line, []));
}

/** Fill all cells of one value, a run of a row at a time. */
function cells(pen, level, mask, value, colour, opacity = 1) {
  const [[rows, columns], [sx, sy]] = [level.size, level.stride];
  pen.fillStyle = colour;
  pen.globalAlpha = opacity;
  for (let i = 0; i < rows; i++) {
    for (let j = 0, start = 0; j <= columns; j++) {
      if (j < columns && mask[i * columns + j] === value) continue;
      if (j > start) pen.fillRect(start * sx, i * sy, (j - start) * sx, sy);
      start = j + 1;
    }
  }
  pen.globalAlpha = 1;
}

/** Tint each cell that is on, by its value. */
function warm(pen, level, mask, heat, colour, opacity) {
  const [columns, [sx, sy]] = [level.size[1], level.stride];
  pen.fillStyle = colour;
  mask.forEach((on, cell) => {
    pen.globalAlpha = (on * opacity * heat[cell]) / 255;
    pen.fillRect((cell % columns) * sx, Math.floor(cell / columns) * sy, sx, sy);
  });
  pen.globalAlpha = 1;
}

/** The edges between cells on and off. */
function rim(pen, level, mask, colour, width) {
  const [[rows, columns], [sx, sy]] = [level.size, level.stride];
  const at = (i, j) => (i < 0 || j < 0 || i >= rows || j >= columns ? 0 : mask[i * columns + j]);
  pen.beginPath();
  for (let i = 0; i <= rows; i++) {
    for (let j = 0; j <= columns; j++) {
      if (at(i, j) !== at(i - 1, j)) { pen.moveTo(j * sx, i * sy); pen.lineTo((j + 1) * sx, i * sy); }
      if (at(i, j) !== at(i, j - 1)) { pen.moveTo(j * sx, i * sy); pen.lineTo(j * sx, (i + 1) * sy); }
    }
  }
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.lineCap = "square";
  pen.stroke();
}

function outline(pen, [x1, y1, x2, y2], colour, width, dash) {
  pen.setLineDash(dash);
  for (const [style, line] of [["#15171b", 1.8 * width], [colour, width]]) {
    pen.strokeStyle = style;
    pen.lineWidth = line;
    pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
  pen.setLineDash([]);
}

// ---------------------------------------------------------------- the page

const share = (some, all) => `${((100 * some) / all).toFixed(1)} %`;

/** A cell of the table: on, all and the share. */
function counted(mask) {
  if (!mask) return made("td", "not compared");
  const cell = made("td", `${count(mask)} `);
  cell.append(made("small", `of ${mask.length} `), made("small", share(count(mask), mask.length)));
  return cell;
}

/** IoU of two masks, or why there is none. */
function agreement(a, b) {
  if (!a || !b) return "–";
  const union = count(a) + count(b) - both(a, b);
  return union ? (both(a, b) / union).toFixed(3) : "both empty";
}

function row(title, a, b, current) {
  const line = made("tr", "", current ? "current" : "");
  const head = made("th", title);
  head.scope = "row";
  line.append(head, counted(a), counted(b), made("td", agreement(a, b)));
  return line;
}

/** Some levels of a mask in one row. */
const joined = (masks) => Uint8Array.from(masks.flatMap((mask) => Array.from(mask)));

function table(image) {
  const [a, b] = panels.map((panel) => panel.on);
  id("rows").replaceChildren(
    ...image.levels.map((level, i) => row(`${level.stride[0]}`, a[i], b[i], i === state.level)));
  const shared = a.map((_, i) => i).filter((i) => a[i] && b[i]);
  const total = row(shared.length < a.length ? "compared" : "all", ...[a, b].map((on) => joined(shared.map((i) => on[i]))));
  id("total").replaceChildren(...(shared.length ? [total] : []));
  for (const panel of panels) {
    const head = id(`head-${panel.letter}`);
    head.className = panel.letter;
    head.replaceChildren(made("span", panel.letter, "badge"), made("span", panel.title, "title"));
  }
  const stride = image.levels[state.level].stride[0];
  id("status").textContent = `IoU of A and B on stride ${stride}: ${agreement(a[state.level], b[state.level])}`;
}

function legend(image) {
  const seen = new Map(image.names.map((name, i) => [name, image.colours[i]]));
  if (image.ignored.length) seen.set("ignored", "#9a9a9a");
  const keys = [...seen].map(([name, colour]) => {
    const key = made("span", "", "key");
    const swatch = made("span", "", "swatch");
    swatch.style.background = colour;
    key.append(swatch, name);
    return key;
  });
  id("legend").replaceChildren(`${image.size[1]} × ${image.size[0]} pixels, boxes: ${image.boxes.length}. `, ...keys);
}

/** Radio buttons for the levels, the same ones on every image. */
function levels(image) {
  const strides = image.levels.map((level) => level.stride[0]);
  const buttons = strides.map((stride, i) => {
    const label = made("label", `${stride}`);
    const input = made("input");
    Object.assign(input, { type: "radio", name: "level", id: `level-${i}`, value: i, checked: i === state.level });
    input.addEventListener("input", () => { state.level = i; refresh(); });
    label.prepend(input);
    return label;
  });
  id("levels").append(...buttons);
}

function refresh() {
  const image = data.images[state.image];
  id("image").value = state.image;
  id("opacity-value").textContent = `${Math.round(100 * id("opacity").value)} %`;
  panels.forEach((panel) => panel.refresh(image));
  table(image);
  legend(image);
}

function show(index) {
  state.image = (index + data.images.length) % data.images.length;
  refresh();
}

id("heat").hidden = !methods.some((one) => one.kind === "map");
if (data.remark) id("remark").textContent = data.remark;
options(id("image"), data.images.map((image) => image.name));
const panels = [new Panel("A", 0), new Panel("B", 1)];
levels(data.images[0]);
id("image").addEventListener("input", () => show(Number(id("image").value)));
id("previous").addEventListener("click", () => show(state.image - 1));
id("next").addEventListener("click", () => show(state.image + 1));
for (const name of ["opacity", "outlines"]) id(name).addEventListener("input", refresh);
document.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const own = event.target.closest("input, select"); // these have their own use for arrows
  if (step && !own && !event.altKey && !event.ctrlKey && !event.metaKey) show(state.image + step);
});
Promise.all(data.images.map((image) => {
  image.element = new Image();
  image.element.src = image.photo;
  return image.element.decode();
})).then(() => { refresh(); document.body.dataset.ready = "yes"; });
