// What the page knows: the session as the server tells it, what is chosen, and where one looks.

export const AXES = ["z", "y", "x"];
// Axes shown upwards and to the right in slices across z, y and x.
export const PLANES = [[1, 2], [0, 2], [1, 0]];

export class Model {
  constructor(facts) {
    Object.assign(this, facts);
    this.size = facts.voxel_size;
    this.classOf = new Map(this.classes.map((one) => [one.label, one]));
    this.particles = new Map();
    this.chosen = null; // number of a particle
    this.label = null; // class that a click adds; null: look around
    this.cursor = this.shape.map((n) => n >> 1); // the slices shown, in voxels
    this.centre = this.shape.map((n, a) => ((n - 1) / 2) * this.size[a]); // of all planes, in Å
    this.scale = 1; // Å a pixel
    this.placed = false; // whether it is known where one looks
    this.circles = true;
    this.showRejected = true;
    this.watchers = [];
    this.edits = 0;
    this.update(facts);
  }

  watch(watcher) { this.watchers.push(watcher); }
  // What changed: "view" (where one looks), "data" (particles, what is chosen), "state" (undo, saved).
  notify(what) { for (const watcher of this.watchers) watcher(what); }

  update(message) {
    for (const [number, one] of Object.entries(message.changed ?? {})) {
      if (one === null) this.particles.delete(+number);
      else this.particles.set(+number, { ...one, number: +number });
    }
    if (this.chosen !== null && !this.particles.has(this.chosen)) this.chosen = null;
    for (const name of ["undo", "redo", "unsaved"]) if (name in message) this[name] = message[name];
    if (message.changed) { this.edits += 1; this.notify("data"); }
    this.notify("state");
  }

  get picked() { return this.chosen === null ? null : this.particles.get(this.chosen) ?? null; }
  radius(one) { return this.classOf.get(one.label)?.radius ?? 50; }
  colour(one) { return this.classOf.get(one.label)?.colour ?? "#ffffff"; }
  angstrom(voxel) { return voxel.map((v, a) => v * this.size[a]); }
  inside(voxel) { return voxel.map((v, a) => Math.min(this.shape[a] - 1, Math.max(0, Math.round(v)))); }

  choose(number) { this.chosen = number; this.notify("data"); }
  setLabel(label) { this.label = label; this.notify("data"); }

  // Cut the planes at a voxel; `middle` also brings it to the middle of the screen.
  lookAt(voxel, middle = false) {
    this.cursor = this.inside(voxel);
    if (middle) this.centre = this.angstrom(voxel);
    this.notify("view");
  }
  jump(one) { this.chosen = one.number; this.notify("data"); this.lookAt(one.voxel, true); }

  // Particles nobody has judged, lowest score first; those without a score last.
  open() {
    const score = (one) => one.score ?? Infinity;
    return [...this.particles.values()].filter((one) => one.verdict === "open")
      .sort((a, b) => (score(a) === score(b) ? a.number - b.number : score(a) - score(b)));
  }
  // The open particle after (or before) one, around the end.
  nextOpen(after, back = false) {
    const queue = this.open();
    if (!queue.length) return null;
    if (after === null) return queue[0];
    const score = (one) => one.score ?? Infinity;
    const later = (one) => (score(one) === score(after) ? one.number > after.number : score(one) > score(after));
    const earlier = (one) => one.number !== after.number && !later(one);
    return back ? queue.filter(earlier).at(-1) ?? queue.at(-1) : queue.find(later) ?? queue[0];
  }
}

// The way to the server: edits there, changes back.
export class Link {
  constructor(model, tell) {
    this.model = model;
    this.tell = tell;
    this.waiting = 0;
    const address = new URL("edits", location.href);
    address.protocol = "ws:";
    this.socket = new WebSocket(address);
    this.opened = new Promise((resolve) => { this.socket.onopen = resolve; });
    this.finished = false;
    this.socket.onmessage = (event) => this.hear(JSON.parse(event.data));
    this.socket.onclose = () => {
      if (!this.finished) {
        tell("The server has stopped. Every edit shown here is safe: run the same command again to go on.", "lost");
      }
    };
  }

  get alive() { return this.socket.readyState === WebSocket.OPEN && !this.finished; }

  ask(request) {
    if (!this.alive) { this.tell("The server has stopped: run the same command again to go on.", "lost"); return; }
    this.waiting += 1;
    this.socket.send(JSON.stringify(request));
    this.model.notify("state");
  }

  hear(message) {
    if ("finished" in message) {
      this.finished = true;
      this.tell(`Saved in ${this.model.output}. You can close this page.`, "calm");
    }
    if ("error" in message) { this.waiting = Math.max(0, this.waiting - 1); this.tell(message.error, "bad"); }
    if ("did" in message) {
      this.waiting = Math.max(0, this.waiting - 1);
      this.done?.(message);
    }
    this.model.update(message);
  }
}
