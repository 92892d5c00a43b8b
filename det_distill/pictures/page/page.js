const data = JSON.parse(document.getElementById("data").textContent);
const id = (name) => document.getElementById(name);
const OWN = { anchor: "AnchorIoUMask", point: "PointMask" }; // what the page works out itself, for its sliders
const methods = [{ title: OWN[data.kind], kind: data.kind }, ...data.masks.map(listed)];

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

for (const note of document.querySelectorAll("[data-note]")) note.hidden = note.dataset.note !== data.kind;
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
