/** The picture with the landmarks of its faces: `View`. */

import { centre, extent, sides } from "./boxes.js";

// Colours of ids: those of Okabe and Ito, made lighter, and repeated.
const COLOURS = ["#40b4ff", "#ffaa3c", "#3cdc96", "#ff82c8", "#faf05a", "#f05a32"];
const CLOSE = 1.9; // of the face's longer side, that a close-up shows
const CALM = 0.15; // seconds in which a close-up follows its face

export const colour = (id) => COLOURS[id % COLOURS.length];

export class View {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.contours = [];
    this.panels = [{ title: "", of: (face) => face.found?.points }];
    this.closeUp = false;
    this.mirrored = false;
    this.shown = null;
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
  }

  /** Forgets where the close-up looks. */
  restart() {
    this.focus = null;
  }

  /**
   * Shows a frame, and closes the one before.
   *
   * @param {import("./camera.js").Frame} frame
   * @param {object[]} faces of `Engine.step`
   */
  show(frame, faces) {
    this.shown?.frame.image.close();
    this.shown = { frame, faces };
    this.follow(frame, faces);
    this.draw();
  }

  /** Moves the close-up towards the largest face. */
  follow({ time }, faces) {
    const boxes = faces
      .filter(({ found }) => found)
      .map(({ id, found }) => [id, extent(found.points)]);
    const longer = ([, box]) => Math.max(...sides(box));
    const same = boxes.find(([id]) => id === this.focus?.id);
    const [id, box] = same ?? boxes.sort((a, b) => longer(b) - longer(a))[0] ?? [];
    if (!box) return;
    const goal = [...centre(box), longer([id, box])];
    const seconds = time - (this.focus?.time ?? time);
    const jump = this.focus?.id !== id || seconds < 0;
    const share = jump ? 1 : 1 - Math.exp(-seconds / CALM);
    const before = jump ? goal : this.focus.place;
    const place = before.map((value, n) => value + share * (goal[n] - value));
    this.focus = { id, time, place };
  }

  /** Draws what is shown again. */
  draw() {
    if (!this.shown) return;
    const { frame } = this.shown;
    const part = this.part(frame);
    const ratio = Math.min(3, globalThis.devicePixelRatio || 1);
    const room = this.canvas.parentElement.clientWidth;
    const most = Math.max(240, 0.64 * globalThis.innerHeight);
    const count = this.panels.length;
    const gap = count > 1 ? 6 : 0;
    const layouts = [
      [count, 1],
      [1, count],
    ].map(([columns, rows]) => {
      const width = (room - gap * (columns - 1)) / columns;
      const height = (most - gap * (rows - 1)) / rows;
      return { columns, rows, zoom: Math.min(width / part.width, height / part.height) };
    });
    // Two pictures are easier to compare beside each other, even a little smaller.
    const { columns, rows, zoom } = layouts[layouts[0].zoom < 0.75 * layouts[1].zoom ? 1 : 0];
    const [w, h] = [part.width * zoom, part.height * zoom];
    const [width, height] = [w * columns + gap * (columns - 1), h * rows + gap * (rows - 1)];
    Object.assign(this.canvas.style, { width: `${width}px`, height: `${height}px` });
    const [pixelsAcross, pixelsDown] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== pixelsAcross) this.canvas.width = pixelsAcross;
    if (this.canvas.height !== pixelsDown) this.canvas.height = pixelsDown;
    const { context } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.panels.forEach((panel, n) => {
      const [x, y] = columns > 1 ? [n * (w + gap), 0] : [0, n * (h + gap)];
      context.setTransform(ratio, 0, 0, ratio, x * ratio, y * ratio);
      this.drawPanel(panel, part, zoom, w, h);
    });
  }

  /** The part of the frame that is shown. */
  part({ width, height }) {
    if (!this.closeUp || !this.focus) return { x: 0, y: 0, width, height };
    const [x, y, face] = this.focus.place;
    const side = Math.max(24, CLOSE * face);
    return {
      x: x - (side * 2) / 3 + 0.5,
      y: y - side / 2 + 0.5,
      width: (side * 4) / 3,
      height: side,
    };
  }

  drawPanel(panel, part, zoom, width, height) {
    const { context } = this;
    const { frame, faces } = this.shown;
    context.save();
    context.beginPath();
    if (context.roundRect) context.roundRect(0, 0, width, height, 8);
    else context.rect(0, 0, width, height);
    context.clip();
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    if (this.mirrored) {
      context.translate(width, 0);
      context.scale(-1, 1);
    }
    context.imageSmoothingQuality = "high";
    context.drawImage(
      frame.image,
      -part.x * zoom,
      -part.y * zoom,
      frame.width * zoom,
      frame.height * zoom,
    );
    context.restore();
    context.save();
    context.beginPath();
    context.rect(0, 0, width, height);
    context.clip();
    // The centre of a picture's first pixel is (0, 0).
    const place = (points, k) => {
      const x = (points[2 * k] + 0.5 - part.x) * zoom;
      return [this.mirrored ? width - x : x, (points[2 * k + 1] + 0.5 - part.y) * zoom];
    };
    for (const face of faces) {
      const points = panel.of(face);
      if (points) this.drawFace(face, points, (k) => place(points, k), zoom);
    }
    if (panel.title) this.write(panel.title, 10, height - 10, "#fff", 14);
    context.restore();
  }

  drawFace({ id, found }, points, place, zoom) {
    const { context } = this;
    const longer = Math.max(...sides(extent(points))) * zoom;
    const radius = Math.min(5, Math.max(1, longer / 110));
    const lines = new Path2D();
    for (const [indices, closed] of this.contours) {
      indices.forEach((k, n) => lines[n ? "lineTo" : "moveTo"](...place(k)));
      if (closed) lines.closePath();
    }
    context.lineJoin = "round";
    for (const [style, thick] of [
      ["rgb(0 0 0 / 45%)", 1.6 * radius + 1],
      [colour(id), 0.9 * radius],
    ]) {
      context.strokeStyle = style;
      context.lineWidth = thick;
      context.stroke(lines);
    }
    context.fillStyle = colour(id);
    context.beginPath();
    for (let k = 0; k < points.length / 2; k++) {
      const [x, y] = place(k);
      context.moveTo(x + radius, y);
      context.arc(x, y, radius, 0, 2 * Math.PI);
    }
    context.fill();
    const box = extent([...Array(points.length / 2).keys()].flatMap(place));
    const text = `${id} · ${Math.round(100 * found.confidence)} %`;
    const size = Math.min(18, Math.max(11, longer / 12));
    this.write(text, Math.max(4, box[0]), Math.max(size + 2, box[1] - 8), colour(id), size);
  }

  /** Writes a line with a dark edge; (x, y) is its lower left corner. */
  write(text, x, y, style, size) {
    const { context } = this;
    context.font = `600 ${size}px system-ui, sans-serif`;
    Object.assign(context, { lineJoin: "round", lineWidth: 3, strokeStyle: "rgb(0 0 0 / 70%)" });
    context.strokeText(text, x, y);
    context.fillStyle = style;
    context.fillText(text, x, y);
  }
}
