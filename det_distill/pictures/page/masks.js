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

/** Per cell how far its point is from the nearer and the farther end of [low, high], in fp32 as in Python. */
function ends(low, high, stride, count) {
  return Array.from({ length: count }, (_, cell) => {
    const [one, other] = [(cell + 0.5) * stride - low, high - (cell + 0.5) * stride].map(Math.fround);
    return [Math.min(one, other), Math.max(one, other)];
  });
}

/** PointMask: per level the cells on, as 0 and 1. */
function pointMask(image, reach) {
  return image.levels.map((level, i) => {
    const [[height, width], [sx, sy]] = [level.size, level.stride];
    const least = i === 0 ? 0 : Math.fround((reach / 2) * sx);
    const most = i === image.levels.length - 1 ? Infinity : Math.fround(reach * sx);
    const mask = new Uint8Array(level.cells.length);
    for (const [x1, y1, x2, y2] of image.boxes) {
      const columns = ends(x1, x2, sx, width);
      ends(y1, y2, sy, height).forEach(([nearY, farY], row) => {
        if (nearY <= 0) return; // no point of this row lies in the box
        columns.forEach(([nearX, farX], column) => {
          const far = Math.max(farX, farY);
          if (nearX > 0 && far >= least && far <= most) mask[row * width + column] = 1;
        });
      });
    }
    return mask.map((on, cell) => on & level.cells[cell]);
  });
}

const count = (mask) => mask.reduce((sum, on) => sum + on, 0);
const both = (a, b) => a.reduce((sum, on, i) => sum + (on & b[i]), 0);
