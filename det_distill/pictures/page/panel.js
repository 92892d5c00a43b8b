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
    for (const name of ["method", "psi", "assignment", "reach", "least"]) {
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
    this.part("reach").max = Math.max(32, data.reach);
    this.part("reach").value = data.reach;
    this.part("assignment").value = data.assignments.indexOf(data.assignment);
    this.canvas = root.querySelector("canvas");
    id("pair").append(root);
  }

  get method() { return methods[this.part("method").value]; }

  get title() {
    const { kind, title } = this.method;
    const value = (name) => Number(this.part(name).value);
    const set = { anchor: `, ψ ${value("psi")}`, point: `, reach ${value("reach")}`, map: ` from ${value("least")}` };
    return title + (set[kind] ?? "");
  }

  /** Per level the cells on, or null where this method has no say. */
  masks(image) {
    const { kind, index } = this.method;
    if (kind === "mask") return image.masks[index];
    if (kind === "point") return pointMask(image, Number(this.part("reach").value));
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
    this.part("reach-value").textContent = Number(this.part("reach").value);
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
