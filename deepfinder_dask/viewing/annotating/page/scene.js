// All particles of the tomogram in space, turned with the mouse: who is missing, who lies outside the layer?

export class Scene {
  constructor(model, canvas) {
    Object.assign(this, { model, canvas });
    this.turn = -0.5;
    this.tilt = 0.45;
    this.drag = null;
    this.drawn = [];
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.drag = { x: event.offsetX, y: event.offsetY, moved: false };
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.drag) return;
      const dx = event.offsetX - this.drag.x, dy = event.offsetY - this.drag.y;
      if (!this.drag.moved && Math.hypot(dx, dy) < 4) return;
      this.turn += dx * 0.01;
      this.tilt = Math.min(1.57, Math.max(-1.57, this.tilt + dy * 0.01));
      this.drag = { x: event.offsetX, y: event.offsetY, moved: true };
      this.draw();
    });
    canvas.addEventListener("pointerup", (event) => {
      const still = this.drag && !this.drag.moved;
      this.drag = null;
      if (still) this.click(event.offsetX, event.offsetY);
    });
  }

  click(x, y) {
    const near = this.drawn.filter((one) => Math.hypot(one.x - x, one.y - y) <= Math.max(6, one.r));
    if (near.length) this.model.jump(near.at(-1).particle);
  }

  draw() {
    const { canvas, model: m } = this, ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (!width || !height) return;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const c = canvas.getContext("2d");
    c.scale(ratio, ratio);
    c.fillStyle = "#101215";
    c.fillRect(0, 0, width, height);
    const whole = m.shape.map((n, a) => n * m.size[a]);
    const scale = (0.92 * Math.min(width, height)) / Math.hypot(...whole);
    const [s, k, t, d] = [Math.sin(this.turn), Math.cos(this.turn), Math.sin(this.tilt), Math.cos(this.tilt)];
    const at = (voxel) => {
      const [z, y, x] = voxel.map((v, a) => (v - (m.shape[a] - 1) / 2) * m.size[a]);
      const across = x * k - y * s, along = x * s + y * k;
      return [width / 2 + across * scale, height / 2 + 8 - (z * d + along * t) * scale, along * d - z * t];
    };
    this.box(c, at, m.shape.map((n) => n - 1));
    this.drawn = [...m.particles.values()].filter((one) => one.verdict !== "rejected").map((particle) => {
      const [x, y, depth] = at(particle.voxel);
      return { particle, x, y, depth, r: Math.max(2.5, m.radius(particle) * scale) };
    }).sort((a, b) => b.depth - a.depth);
    const far = Math.hypot(...whole) / 2;
    for (const { particle, x, y, r, depth } of this.drawn) {
      const chosen = particle.number === m.chosen;
      c.globalAlpha = chosen ? 1 : 0.9 - 0.45 * ((depth + far) / (2 * far));
      c.fillStyle = m.colour(particle);
      c.beginPath();
      c.arc(x, y, r, 0, 7);
      c.fill();
      c.strokeStyle = chosen ? "#fff" : "#0008";
      c.lineWidth = chosen ? 2.5 : 0.8;
      c.stroke();
    }
    c.globalAlpha = 1;
    const [x, y] = at(m.cursor);
    c.strokeStyle = "#ffd166";
    c.lineWidth = 1.5;
    c.beginPath();
    c.moveTo(x - 7, y); c.lineTo(x + 7, y); c.moveTo(x, y - 7); c.lineTo(x, y + 7);
    c.stroke();
  }

  box(c, at, far) {
    c.strokeStyle = "#4a505a";
    c.lineWidth = 1;
    for (let corner = 0; corner < 8; corner++) {
      for (const bit of [1, 2, 4]) {
        if (corner & bit) continue;
        const ends = [corner, corner | bit].map((n) => at(far.map((v, a) => ((n >> a) & 1 ? v : 0))));
        c.beginPath();
        c.moveTo(ends[0][0], ends[0][1]); c.lineTo(ends[1][0], ends[1][1]);
        c.stroke();
      }
    }
    c.fillStyle = "#969ca6";
    c.font = "11px system-ui, sans-serif";
    c.textAlign = "center";
    ["z", "y", "x"].forEach((name, a) => {
      const [x, y] = at(far.map((v, n) => (n === a ? v * 1.04 + 2 : 0)));
      c.fillText(name, x, y + 4);
    });
  }
}
