// Grey values to grey: contrast, its histogram, and how many slices are one picture.

const CODES = 65536;

export class Grey {
  constructor(model, canvas) {
    Object.assign(this, { model, canvas });
    this.table = new Uint32Array(CODES);
    this.black = 0;
    this.white = CODES - 1;
    this.inverted = false;
    this.smooth = { ...model.smooth };
    this.counts = null;
    this.chosen = false; // whether somebody has set the contrast by hand
    this.level = null; // for which level it was set: means of more voxels have less noise
    this.planes = [];
    this.fill();
    canvas.addEventListener("pointerdown", (event) => this.grab(event));
    canvas.addEventListener("pointermove", (event) => { if (this.held) this.pull(event); });
    canvas.addEventListener("pointerup", () => { this.held = null; });
  }

  slices(axis) {
    const { amount, unit } = this.smooth;
    const wished = unit === "slices" ? amount : amount / this.model.size[axis];
    return Math.min(64, Math.max(1, Math.round(wished)));
  }

  fill() {
    const width = Math.max(1, this.white - this.black);
    for (let code = 0; code < CODES; code++) {
      const part = Math.min(1, Math.max(0, (code - this.black) / width));
      const value = Math.round(255 * (this.inverted ? 1 - part : part));
      this.table[code] = 0xff000000 | (value << 16) | (value << 8) | value;
    }
  }

  apply() {
    this.fill();
    for (const plane of this.planes) { plane.paint(); plane.draw(); }
    this.draw();
  }

  // A slice has come: the histogram is that of the first plane.
  seen(plane) {
    if (plane.axis !== 0 || plane.image.failed) return;
    const counts = new Uint32Array(256), { codes } = plane.image;
    for (let n = 0; n < codes.length; n++) counts[codes[n] >> 8] += 1;
    this.counts = counts;
    if (!this.chosen && plane.image.level !== this.level) {
      this.level = plane.image.level;
      this.stretch(codes);
    } else this.draw();
  }

  // Black and white from what is shown, leaving out a thousandth on both sides and a little air.
  stretch(codes) {
    const sorted = Uint16Array.from(codes.length > 50000 ? codes.filter((_, n) => n % 7 === 0) : codes).sort();
    const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
    const low = at(0.002), high = at(0.998), air = (high - low) * 0.03;
    this.black = Math.max(0, low - air);
    this.white = Math.min(CODES - 1, Math.max(high + air, this.black + 16));
    this.apply();
  }

  auto() {
    this.chosen = false;
    const codes = this.planes[0]?.image?.codes;
    if (codes) this.stretch(codes);
  }
  invert() { this.inverted = !this.inverted; this.apply(); }
  setSmooth(amount, unit) {
    if (!(amount > 0)) return;
    this.smooth = { amount, unit };
    this.level = null;
    for (const plane of this.planes) plane.refresh();
  }

  draw() {
    const c = this.canvas.getContext("2d"), { width, height } = this.canvas;
    c.clearRect(0, 0, width, height);
    if (!this.counts) return;
    const [first, last] = this.span();
    const shown = (code) => ((code - first) / (last - first)) * width;
    const most = Math.max(...this.counts.slice(1, 255), 1);
    c.fillStyle = "#7c838e";
    this.counts.forEach((count, n) => {
      const x = shown(n * 256), high = (count / most) * (height - 6);
      c.fillRect(x, height - high, Math.max(1, shown((n + 1) * 256) - x), high);
    });
    c.strokeStyle = "#ffd166";
    c.lineWidth = 2;
    for (const code of [this.black, this.white]) {
      const x = Math.min(width - 1, Math.max(1, shown(code)));
      c.beginPath(); c.moveTo(x, 0); c.lineTo(x, height); c.stroke();
    }
  }

  // Codes at the edges of the histogram: where there are any values.
  span() {
    const some = (n) => n > 0;
    const first = Math.max(0, this.counts.findIndex(some) - 8), last = Math.min(256, this.counts.findLastIndex(some) + 9);
    return [first * 256, Math.max(last, first + 1) * 256];
  }

  grab(event) {
    if (!this.counts) return;
    this.canvas.setPointerCapture(event.pointerId);
    const code = this.code(event);
    this.chosen = true;
    this.held = Math.abs(code - this.black) < Math.abs(code - this.white) ? "black" : "white";
    this.pull(event);
  }
  code(event) {
    const [first, last] = this.span();
    return first + (event.offsetX / this.canvas.clientWidth) * (last - first);
  }
  pull(event) {
    const code = this.code(event);
    if (this.held === "black") this.black = Math.max(0, Math.min(code, this.white - 16));
    else this.white = Math.min(CODES - 1, Math.max(code, this.black + 16));
    this.apply();
  }
}
