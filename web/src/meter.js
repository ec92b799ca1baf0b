/** The flicker over time, as a picture: `Meter`. */

const SECONDS = 10; // that are shown
const MEAN = 1; // seconds of the thick line's running mean

export class Meter {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {Record<string, string>} colours name of the CSS variable of each series
   */
  constructor(canvas, colours) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.colours = colours;
    this.restart();
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** Forgets all values. */
  restart() {
    this.series = Object.fromEntries(Object.keys(this.colours).map((name) => [name, []]));
    this.sums = Object.fromEntries(Object.keys(this.colours).map((name) => [name, [0, 0]]));
    this.now = 0;
  }

  /**
   * Adds the values of a frame.
   *
   * @param {number} time seconds, on a clock that only goes forward
   * @param {Record<string, number | null | undefined>} values by series; undefined of those that are
   *   not measured
   */
  add(time, values) {
    this.now = time;
    for (const [name, value] of Object.entries(values)) {
      if (value === undefined) continue;
      this.series[name].push([time, value]);
      while (this.series[name][0]?.[0] < time - SECONDS - MEAN) this.series[name].shift();
      if (value !== null) {
        this.sums[name][0] += value;
        this.sums[name][1] += 1;
      }
    }
  }

  /** Mean of all values of a series so far, and their number. */
  mean(name) {
    const [sum, count] = this.sums[name];
    return { value: count ? sum / count : null, count };
  }

  /** Draws the last seconds. */
  draw() {
    const { canvas, context } = this;
    const ratio = Math.min(3, globalThis.devicePixelRatio || 1);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !height) return;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const style = getComputedStyle(canvas);
    const values = Object.values(this.series)
      .flat()
      .map(([, value]) => value ?? 0);
    const top = niceTop(Math.max(0.4, ...values));
    const [left, bottom] = [40, height - 6];
    const x = (time) => left + ((time - this.now + SECONDS) / SECONDS) * (width - left);
    const y = (value) => bottom - (value / top) * (bottom - 12);
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const value of [0, top / 2, top]) {
      context.fillStyle = style.getPropertyValue("--quiet");
      context.fillText(`${value.toFixed(top < 1 ? 1 : top < 2 ? 1 : 0)} %`, left - 6, y(value));
      context.fillStyle = style.getPropertyValue("--line");
      context.fillRect(left, y(value), width - left, 1);
    }
    context.beginPath();
    context.rect(left, 0, width - left, height);
    context.save();
    context.clip();
    for (const [name, points] of Object.entries(this.series)) {
      context.strokeStyle = style.getPropertyValue(this.colours[name]);
      this.line(points, x, y, 1, 0.35);
      this.line(means(points), x, y, 2.5, 1);
    }
    context.restore();
  }

  /** A line through points, broken where there is no value. */
  line(points, x, y, thick, alpha) {
    const { context } = this;
    context.beginPath();
    let drawing = false;
    for (const [time, value] of points) {
      if (value === null) drawing = false;
      else {
        context[drawing ? "lineTo" : "moveTo"](x(time), y(value));
        drawing = true;
      }
    }
    Object.assign(context, { lineWidth: thick, globalAlpha: alpha, lineJoin: "round" });
    context.stroke();
    context.globalAlpha = 1;
  }
}

/** Running means of a series. */
function means(points) {
  return points.map(([time, value], n) => {
    if (value === null) return [time, null];
    let [sum, count] = [0, 0];
    for (let k = n; k >= 0 && points[k][0] > time - MEAN; k--) {
      if (points[k][1] === null) continue;
      sum += points[k][1];
      count++;
    }
    return [time, sum / count];
  });
}

/** The end of an axis that reaches a value. */
function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 6, 10].find((step) => step * power >= value) * power;
}
