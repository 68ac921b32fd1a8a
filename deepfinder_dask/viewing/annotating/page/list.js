// The table of particles: only the rows on screen exist.

const HEIGHT = 24;

export class List {
  constructor(model, parts) {
    Object.assign(this, { model, ...parts }); // table, rows, only, order, total
    this.shown = [];
    this.only.append(new Option("all classes", ""));
    for (const one of model.classes) this.only.append(new Option(one.name, one.label));
    if (model.review) {
      this.only.append(new Option("not judged yet", "open"), new Option("rejected", "rejected"));
      this.order.value = "score";
    }
    this.only.addEventListener("change", () => this.sort());
    this.order.addEventListener("change", () => this.sort());
    this.table.addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(this.table);
    this.rows.addEventListener("click", (event) => {
      const row = event.target.closest("[data-particle]");
      if (row) model.jump(model.particles.get(+row.dataset.particle));
    });
    this.sort();
  }

  sort() {
    const { value: only } = this.only, { value: order } = this.order;
    const fits = (one) => only === "" || one.verdict === only || String(one.label) === only;
    const score = (one) => one.score ?? Infinity;
    const by = {
      newest: (a, b) => b.number - a.number,
      score: (a, b) => (score(a) === score(b) ? a.number - b.number : score(a) - score(b)),
      z: (a, b) => a.voxel[0] - b.voxel[0] || a.number - b.number,
    };
    this.shown = [...this.model.particles.values()].filter(fits).sort(by[order]);
    this.rows.style.height = `${this.shown.length * HEIGHT}px`;
    const kept = [...this.model.particles.values()].filter((one) => one.verdict !== "rejected").length;
    this.total.textContent = `${kept} in the table`;
    const at = this.shown.findIndex((one) => one.number === this.model.chosen);
    if (at >= 0 && this.model.chosen !== this.last) {
      const top = at * HEIGHT, room = this.table.clientHeight;
      if (top < this.table.scrollTop || top + HEIGHT > this.table.scrollTop + room) this.table.scrollTop = top - room / 2;
    }
    this.last = this.model.chosen;
    this.draw();
  }

  draw() {
    const first = Math.max(0, Math.floor(this.table.scrollTop / HEIGHT) - 4);
    const last = Math.min(this.shown.length, first + Math.ceil(this.table.clientHeight / HEIGHT) + 8);
    this.rows.replaceChildren(...this.shown.slice(first, last).map((one, n) => this.row(one, (first + n) * HEIGHT)));
  }

  row(one, top) {
    const m = this.model, row = document.createElement("div");
    row.dataset.particle = one.number;
    row.style.top = `${top}px`;
    row.className = `${one.number === m.chosen ? "on" : ""} ${one.verdict === "rejected" ? "rejected" : ""}`;
    const dot = document.createElement("i");
    dot.className = "dot";
    dot.style.background = m.colour(one);
    const cell = (words, kind = "") => Object.assign(document.createElement("span"), { textContent: words, className: kind });
    const place = one.voxel.map((v) => Math.round(v)).reverse().join(" ");
    const mark = { open: "", accepted: m.review ? "✓" : "", rejected: "✗" }[one.verdict];
    row.append(dot, cell(m.classOf.get(one.label)?.name ?? one.label), cell(place, "right"),
      cell(one.score === null || one.score === undefined ? "" : one.score.toFixed(2), "right"), cell(mark));
    row.title = `x y z in voxels; ${m.angstrom(one.voxel).map((v) => v.toFixed(1)).reverse().join(", ")} Å`;
    return row;
  }
}
