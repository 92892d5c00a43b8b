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
