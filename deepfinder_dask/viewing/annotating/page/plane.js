// One plane: the slice, the particles that it cuts, and what the mouse does in it.

import { AXES, PLANES } from "./model.js";

const HANDLE = 8; // pixels around a centre in which a click means the particle
const CAPTION = 24; // pixels above the picture
const STILL = 3; // pixels the mouse may move in a click

export class Plane {
  constructor(model, grey, link, figure) {
    Object.assign(this, { model, grey, link, figure });
    this.axis = +figure.dataset.axis;
    [this.up, this.right] = PLANES[this.axis];
    this.canvas = figure.querySelector("canvas");
    this.context = this.canvas.getContext("2d");
    this.image = null; // the codes that are there, and of which part of which slice they are
    this.picture = document.createElement("canvas");
    this.busy = false;
    this.drag = null;
    this.hover = null; // voxel under the mouse
    this.caption();
    new ResizeObserver(() => this.resize()).observe(figure);
    this.canvas.addEventListener("pointerdown", (event) => this.down(event));
    this.canvas.addEventListener("pointermove", (event) => this.move(event));
    this.canvas.addEventListener("pointerup", (event) => this.release(event));
    this.canvas.addEventListener("pointercancel", () => { this.drag = null; this.draw(); });
    this.canvas.addEventListener("pointerleave", () => { this.hover = null; model.notify("hover"); });
    this.canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    this.canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.resize();
  }

  caption() {
    const caption = this.figure.querySelector("figcaption");
    this.words = document.createElement("span");
    this.slider = Object.assign(document.createElement("input"), { type: "range", min: 0, max: this.model.shape[this.axis] - 1 });
    this.slider.title = `slice across ${AXES[this.axis]}`;
    this.slider.tabIndex = -1;
    this.slider.addEventListener("input", () => this.step(+this.slider.value - this.model.cursor[this.axis]));
    caption.append(this.words, this.slider);
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    // Whole pixels, so that a pixel of the page is one of the canvas, and the mouse points where it seems to.
    const width = this.figure.clientWidth, height = this.figure.clientHeight - CAPTION;
    Object.assign(this, { width, height, ratio });
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    this.canvas.width = Math.max(1, Math.round(width * ratio));
    this.canvas.height = Math.max(1, Math.round(height * ratio));
    this.refresh();
  }

  // --- where a voxel is on screen, and what is at a pixel -------------------------------------------------------

  pixel(voxel) {
    const { model: m, up, right } = this;
    return [
      this.width / 2 + (voxel[right] * m.size[right] - m.centre[right]) / m.scale,
      this.height / 2 - (voxel[up] * m.size[up] - m.centre[up]) / m.scale,
    ];
  }
  // Exact, in voxels; whole numbers are centres of voxels.
  place(x, y) {
    const { model: m, up, right } = this;
    const at = [...m.cursor];
    at[right] = (m.centre[right] + (x - this.width / 2) * m.scale) / m.size[right];
    at[up] = (m.centre[up] - (y - this.height / 2) * m.scale) / m.size[up];
    return at;
  }
  // The voxel at a pixel, null outside of the tomogram.
  voxel(x, y) {
    const at = this.place(x, y).map((v) => Math.floor(v + 0.5));
    return at.every((v, a) => v >= 0 && v < this.model.shape[a]) ? at : null;
  }

  // --- the slice ------------------------------------------------------------------------------------------------

  // The coarsest level that the screen can hardly tell from a finer one.
  level() {
    const { model: m, up, right } = this;
    const dot = 1.4 * (m.scale / this.ratio);
    let found = 0;
    m.levels.forEach((level, n) => {
      if (level.factor[up] * m.size[up] <= dot && level.factor[right] * m.size[right] <= dot) found = n;
    });
    return found;
  }

  wanted(number = this.level()) {
    const { model: m, up, right, axis } = this;
    const { factor, shape } = m.levels[number];
    const low = this.place(0, this.height), high = this.place(this.width, 0);
    const span = (a) => {
      const step = 64, margin = 0.15 * (high[a] - low[a]);
      const first = Math.floor((low[a] - margin + 0.5) / factor[a] / step) * step;
      const last = Math.ceil((high[a] + margin + 0.5) / factor[a] / step) * step;
      const begin = Math.min(Math.max(0, first), shape[a] - 1);
      return [begin, Math.max(1, Math.min(shape[a], last) - begin)];
    };
    const [row, rows] = span(up), [column, columns] = span(right);
    return { axis, index: m.cursor[axis], level: number, row, rows, column, columns, slices: this.grey.slices(axis) };
  }

  // Whether what is there covers what is on screen, in the right slice at the right level.
  covers(image, want) {
    if (!image) return false;
    const same = ["index", "level", "slices"].every((name) => image[name] === want[name]);
    return same && ["row", "column"].every((first) => {
      const count = `${first}s`;
      return image[first] <= want[first] && image[first] + image[count] >= want[first] + want[count];
    });
  }

  refresh() {
    if (this.width > 0 && this.height > 0 && this.model.placed) { this.fetch(); this.draw(); }
  }

  // Slices that lie in the same chunks: the first of them takes long, the others are there.
  slab({ level, index }) {
    const { factor, chunk } = this.model.levels[level];
    return `${level} ${Math.floor(index / factor[this.axis] / chunk[this.axis])}`;
  }

  // What to ask for next: in chunks that nobody has read yet a coarser level first, which is there at once.
  next() {
    const want = this.wanted();
    if (this.covers(this.image, want)) return null;
    if (this.known?.has(this.slab(want)) || want.level + 1 >= this.model.levels.length) return want;
    const coarse = this.wanted(want.level + 1);
    return this.covers(this.image, coarse) ? want : coarse;
  }

  async fetch() {
    if (this.busy) return;
    this.busy = true;
    for (let ask = this.next(); ask; ask = this.next()) {
      const answer = await fetch(`slice?${new URLSearchParams(ask)}`).catch(() => null);
      if (answer === null) break; // the link says so
      const codes = answer.ok ? new Uint16Array(await answer.arrayBuffer()) : null;
      if (codes === null) this.link.tell(await answer.text(), "bad");
      this.image = { ...ask, codes: codes ?? new Uint16Array(ask.rows * ask.columns), failed: !answer.ok };
      if (ask.level === this.level()) this.known = new Set([this.slab(ask), this.warmed]);
      this.grey.seen(this);
      this.paint();
      this.draw();
    }
    this.busy = false;
    this.figure.dataset.shown = `${this.model.cursor}`;
    this.warm();
  }

  // Have the server read what comes next in this direction, while nobody waits for it.
  async warm() {
    const index = this.model.cursor[this.axis] + 16 * (this.direction ?? 0);
    this.direction = 0;
    if (index < 0 || index >= this.model.shape[this.axis]) return;
    const ask = { ...this.wanted(), index, slices: 1, warm: 1 }, slab = this.slab(ask);
    if (this.known?.has(slab) || slab === this.warmed) return;
    this.warmed = slab;
    await fetch(`slice?${new URLSearchParams(ask)}`).catch(() => null);
    this.known?.add(slab);
  }

  // Codes to colours: the first row of codes is the lowest on screen.
  paint() {
    if (!this.image) return;
    const { codes, rows, columns } = this.image;
    this.picture.width = columns;
    this.picture.height = rows;
    const context = this.picture.getContext("2d");
    const pixels = context.createImageData(columns, rows);
    const colours = new Uint32Array(pixels.data.buffer), table = this.grey.table;
    for (let row = 0; row < rows; row++) {
      const from = row * columns, to = (rows - 1 - row) * columns;
      for (let n = 0; n < columns; n++) colours[to + n] = table[codes[from + n]];
    }
    context.putImageData(pixels, 0, 0);
  }

  // --- drawing --------------------------------------------------------------------------------------------------

  draw() {
    const { context: c, model: m, axis, up, right } = this;
    c.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    c.fillStyle = "#0b0c0e";
    c.fillRect(0, 0, this.width, this.height);
    if (this.image) {
      const { factor } = m.levels[this.image.level], i = this.image;
      const edge = [0, 0, 0], far = [0, 0, 0];
      edge[right] = i.column * factor[right] - 0.5;
      edge[up] = (i.row + i.rows) * factor[up] - 0.5;
      far[right] = (i.column + i.columns) * factor[right] - 0.5;
      far[up] = i.row * factor[up] - 0.5;
      const [x0, y0] = this.pixel(edge), [x1, y1] = this.pixel(far);
      c.imageSmoothingEnabled = (x1 - x0) / i.columns < 1.5;
      c.drawImage(this.picture, x0, y0, x1 - x0, y1 - y0);
    }
    this.cuts(c);
    if (m.circles) this.marks(c);
    if (axis === 0) this.bar(c);
    this.words.textContent = `${AXES[axis]} ${m.cursor[axis]} of ${m.shape[axis] - 1}`;
    this.slider.value = m.cursor[axis];
    this.figure.classList.toggle("look", m.label === null);
  }

  // Faint lines where the other planes cut.
  cuts(c) {
    const [x, y] = this.pixel(this.model.cursor);
    c.strokeStyle = "#ffd16666";
    c.lineWidth = 1;
    c.setLineDash([6, 5]);
    c.beginPath();
    c.moveTo(x, 0); c.lineTo(x, this.height);
    c.moveTo(0, y); c.lineTo(this.width, y);
    c.stroke();
    c.setLineDash([]);
  }

  // Radius, in pixels, of the circle in which this slice cuts a particle; 0 where it does not.
  cut(one) {
    const away = Math.abs(one.voxel[this.axis] - this.model.cursor[this.axis]) * this.model.size[this.axis];
    const square = this.model.radius(one) ** 2 - away ** 2;
    const here = away <= this.model.size[this.axis] / 2;
    return square > 0 ? Math.max(Math.sqrt(square) / this.model.scale, here ? 3 : 0) : here ? 3 : 0;
  }

  marks(c) {
    const m = this.model;
    for (const one of m.particles.values()) {
      if (one.verdict === "rejected" && !m.showRejected) continue;
      const moved = this.drag?.particle === one.number && this.drag.to ? { ...one, voxel: this.drag.to } : one;
      const radius = this.cut(moved);
      if (!radius) continue;
      const [x, y] = this.pixel(moved.voxel);
      if (x < -radius || y < -radius || x > this.width + radius || y > this.height + radius) continue;
      const chosen = one.number === m.chosen;
      const here = Math.abs(moved.voxel[this.axis] - m.cursor[this.axis]) <= 0.5;
      c.globalAlpha = one.verdict === "rejected" ? 0.55 : 1;
      c.beginPath();
      c.arc(x, y, radius, 0, 7);
      // An edge that stands out from grey of any kind.
      c.strokeStyle = chosen ? "#fff" : "#fff5";
      c.lineWidth = chosen ? 5 : 4;
      c.stroke();
      c.strokeStyle = m.colour(one);
      c.lineWidth = chosen ? 3 : 2;
      c.setLineDash(one.verdict === "open" && !chosen ? [5, 4] : []);
      c.stroke();
      c.setLineDash([]);
      c.beginPath();
      if (one.verdict === "rejected") {
        c.moveTo(x - 5, y - 5); c.lineTo(x + 5, y + 5);
        c.moveTo(x - 5, y + 5); c.lineTo(x + 5, y - 5);
      } else {
        c.arc(x, y, here ? 3 : 2, 0, 7);
      }
      if (here && one.verdict !== "rejected") { c.fillStyle = m.colour(one); c.fill(); }
      c.lineWidth = 1.5;
      c.stroke();
      c.globalAlpha = 1;
    }
  }

  bar(c) {
    const wished = (this.width / 6) * this.model.scale / 10; // nm
    const nm = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].findLast((n) => n <= wished) ?? 1;
    const length = (nm * 10) / this.model.scale;
    c.fillStyle = "#000a";
    c.fillRect(10, this.height - 32, length + 16, 24);
    c.fillStyle = "#fff";
    c.fillRect(18, this.height - 15, length, 3);
    c.font = "11px system-ui, sans-serif";
    c.textAlign = "center";
    c.fillText(`${nm} nm`, 18 + length / 2, this.height - 19);
  }

  // --- mouse ----------------------------------------------------------------------------------------------------

  // The particle whose centre is at a pixel: of several the nearest, also in depth.
  hit(x, y) {
    let best = null, least = Infinity;
    if (!this.model.circles) return null;
    for (const one of this.model.particles.values()) {
      if (!this.cut(one) || (one.verdict === "rejected" && !this.model.showRejected)) continue;
      const [px, py] = this.pixel(one.voxel);
      const away = Math.hypot(px - x, py - y);
      const deep = Math.abs(one.voxel[this.axis] - this.model.cursor[this.axis]);
      if (away <= HANDLE && away + deep < least) { best = one; least = away + deep; }
    }
    return best;
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    document.activeElement?.blur();
    const { offsetX: x, offsetY: y } = event;
    const one = event.button === 0 && !event.shiftKey ? this.hit(x, y) : null;
    this.drag = { x, y, lastX: x, lastY: y, button: event.button, particle: one?.number ?? null, moved: false, to: null };
    if (one) this.model.choose(one.number);
  }

  move(event) {
    const { offsetX: x, offsetY: y } = event, m = this.model, drag = this.drag;
    this.hover = this.voxel(x, y);
    m.under = this;
    if (drag) {
      drag.moved ||= Math.hypot(x - drag.x, y - drag.y) > STILL;
      if (drag.moved && drag.particle !== null) {
        const one = m.particles.get(drag.particle);
        // In the plane only: how deep it is stays as it was.
        if (one && this.hover) drag.to = this.hover.map((v, a) => (a === this.axis ? one.voxel[a] : v));
        this.draw();
      } else if (drag.moved && drag.button !== 2) {
        m.centre[this.right] -= (x - drag.lastX) * m.scale;
        m.centre[this.up] += (y - drag.lastY) * m.scale;
        m.notify("view");
      }
      drag.lastX = x; drag.lastY = y;
    }
    this.canvas.classList.toggle("grab", !!(drag ? drag.particle !== null : this.hit(x, y)));
    m.notify("hover");
  }

  release(event) {
    const drag = this.drag, m = this.model, at = this.voxel(event.offsetX, event.offsetY);
    this.drag = null;
    if (!drag) return;
    if (drag.to) {
      this.link.ask({ do: "move", particle: drag.particle, voxel: drag.to });
      m.particles.get(drag.particle).voxel = drag.to; // until the server says so
      m.lookAt(drag.to);
    } else if (!drag.moved && at && drag.particle === null) {
      if (drag.button === 0 && m.label !== null) this.link.ask({ do: "add", label: m.label, voxel: at });
      else if (drag.button === 0) m.choose(null);
      if (drag.button !== 1) m.lookAt(at);
    } else if (!drag.moved && drag.particle !== null) {
      m.lookAt(m.particles.get(drag.particle).voxel);
    }
    this.draw();
  }

  wheel(event) {
    event.preventDefault();
    if (event.ctrlKey || event.metaKey) {
      this.zoom(Math.exp(event.deltaY * (event.deltaMode ? 0.05 : 0.002)), event.offsetX, event.offsetY);
      return;
    }
    const delta = event.deltaY || event.deltaX; // with Shift some browsers turn the wheel sideways
    this.turned = (this.turned ?? 0) + (event.deltaMode ? delta * 40 : delta);
    const steps = Math.trunc(this.turned / 50) || (Math.abs(delta) >= 50 ? Math.sign(delta) : 0);
    if (steps) { this.turned = 0; this.step(-Math.sign(steps) * Math.min(3, Math.abs(steps)) * (event.shiftKey ? 10 : 1)); }
  }

  step(slices) {
    const m = this.model, at = [...m.cursor];
    this.direction = Math.sign(slices);
    at[this.axis] += slices;
    m.lookAt(at);
  }

  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const m = this.model, at = this.place(x, y);
    const least = Math.min(...m.size) / 24, most = Math.max(...m.shape.map((n, a) => n * m.size[a])) / 80;
    m.scale = Math.min(most, Math.max(least, m.scale * factor));
    // What is under the mouse stays there.
    m.centre[this.right] = at[this.right] * m.size[this.right] - (x - this.width / 2) * m.scale;
    m.centre[this.up] = at[this.up] * m.size[this.up] + (y - this.height / 2) * m.scale;
    m.notify("view");
  }
}
