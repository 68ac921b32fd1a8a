// The page: panels, keys, and what they do.

import { Grey } from "./grey.js";
import { List } from "./list.js";
import { Link, Model } from "./model.js";
import { Plane } from "./plane.js";
import { Scene } from "./scene.js";

const find = (name) => document.getElementById(name);
const facts = await (await fetch("session")).json();
const model = new Model(facts);
const link = new Link(model, tell);
await link.opened;

document.title = `Annotate ${facts.tomogram}`;
find("name").textContent = facts.tomogram;
const sizes = [...new Set(facts.voxel_size)].map((v) => +v.toFixed(3));
find("facts").textContent = `${[...facts.shape].reverse().join(" × ")} voxels (x, y, z) of ${sizes.length === 1 ? sizes[0] : facts.voxel_size.map((v) => +v.toFixed(3)).reverse().join(" × ")} Å`;

const grey = new Grey(model, find("histogram"));
layout();
const planes = [...document.querySelectorAll("figure[data-axis]")].map((figure) => new Plane(model, grey, link, figure));
grey.planes = planes;
const list = new List(model, { table: find("table"), rows: find("rows"), only: find("only"), order: find("order"), total: find("total") });
const scene = new Scene(model, find("scene"));
model.under = planes[0];
if (!facts.review) model.label = facts.classes[0].label;

// --- classes ------------------------------------------------------------------------------------------------------

const buttons = facts.classes.map((one, n) => {
  const button = document.createElement("button");
  button.dataset.label = one.label;
  button.title = one.known ? `radius ${one.radius} Å` : "no radius in the classes file: the circles are of no meaning";
  const dot = Object.assign(document.createElement("i"), { className: "dot" });
  dot.style.background = one.colour;
  const name = Object.assign(document.createElement("span"), { className: "name", textContent: one.name });
  const count = Object.assign(document.createElement("span"), { className: "count" });
  button.append(dot, name, count);
  if (n < 9) button.append(Object.assign(document.createElement("kbd"), { textContent: n + 1 }));
  button.addEventListener("click", () => model.setLabel(one.label));
  find("relabel").append(new Option(one.name, one.label));
  return button;
});
find("classes").append(...buttons);

// --- layout: planes as large as the tomogram's proportions allow ----------------------------------------------------

function fitted() {
  const stage = find("stage");
  const [z, y, x] = facts.shape.map((n, a) => n * facts.voxel_size[a]);
  const scale = Math.max((x + z) / stage.clientWidth, (y + z) / stage.clientHeight);
  return { scale, x, y, z };
}
function layout() {
  const { x, y, z } = fitted();
  const part = (a) => Math.min(0.72, Math.max(0.5, a / (a + z)));
  const style = find("stage").style;
  style.setProperty("--wide", `${part(x)}fr`);
  style.setProperty("--slim", `${1 - part(x)}fr`);
  style.setProperty("--up", `${part(y)}fr`);
  style.setProperty("--down", `${1 - part(y)}fr`);
}
function fit() {
  const { x, y } = fitted(), figure = planes[0];
  model.scale = Math.max(x / figure.width, y / figure.height, 1e-6) * 1.02;
  model.centre = facts.shape.map((n, a) => ((n - 1) / 2) * facts.voxel_size[a]);
  model.notify("view");
}

// --- saying -------------------------------------------------------------------------------------------------------

function tell(words, kind = "bad") {
  const banner = find("banner");
  banner.hidden = false;
  banner.className = kind;
  banner.firstElementChild.textContent = words;
  model?.notify("state");
}
find("banner").querySelector("button").addEventListener("click", () => { find("banner").hidden = true; });

function state() {
  const saved = find("saved");
  const lost = !link.alive;
  saved.className = lost ? "bad" : "";
  saved.textContent = lost ? (link.finished ? "finished" : "server stopped")
    : link.waiting ? "keeping…" : model.unsaved ? "kept; table follows" : `saved in ${facts.output}`;
  document.body.dataset.saved = !lost && !link.waiting && !model.unsaved;
  document.body.dataset.waiting = link.waiting;
  find("undo").disabled = !model.undo || lost;
  find("redo").disabled = !model.redo || lost;
}

function data() {
  const counts = new Map();
  let open = 0, judged = 0;
  for (const one of model.particles.values()) {
    if (one.verdict !== "rejected") counts.set(one.label, (counts.get(one.label) ?? 0) + 1);
    if (one.verdict === "open") open += 1;
    else judged += 1;
  }
  for (const button of buttons) {
    const label = +button.dataset.label;
    button.querySelector(".count").textContent = counts.get(label) ?? 0;
    button.classList.toggle("on", label === model.label);
  }
  find("look").classList.toggle("on", model.label === null);
  const picked = model.picked;
  find("remove").disabled = find("relabel").disabled = !picked;
  if (picked) find("relabel").value = picked.label;
  find("review").hidden = !facts.review;
  find("accept").disabled = find("reject").disabled = !picked;
  const score = picked?.score === null || picked?.score === undefined ? "" : ` · score ${picked.score.toFixed(2)}`;
  find("left-over").textContent = (open ? `${open} to judge` : "all judged") + score;
  find("progress").firstElementChild.style.width = `${(100 * judged) / Math.max(1, open + judged)}%`;
  const chosen = model.classOf.get(model.label);
  find("mode").textContent = chosen ? `click adds: ${chosen.name}` : "looking around: a click cuts the other planes there";
  list.sort();
}

function hover() {
  const at = model.under?.hover ?? model.cursor;
  const angstrom = model.angstrom(at).map((v) => v.toFixed(1));
  find("place").textContent = `x y z  ${[...at].reverse().join("  ")}  voxels    ${angstrom.reverse().join("  ")} Å`;
}

// Both other planes follow where it would leave them.
function follow() {
  for (const axis of [0, 1, 2]) {
    const at = model.cursor[axis] * model.size[axis];
    const room = Math.min(...planes.filter((p) => p.axis !== axis).map((p) => (p.up === axis ? p.height : p.width)));
    if (Math.abs(at - model.centre[axis]) > 0.46 * room * model.scale) model.centre[axis] = at;
  }
}

let drawing = false;
function soon() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    for (const plane of planes) plane.refresh();
    scene.draw();
    hover();
  });
}
let cursor = `${model.cursor}`;
model.watch((what) => {
  if (what === "view" && `${model.cursor}` !== cursor) { cursor = `${model.cursor}`; follow(); }
  if (what === "view" || what === "data") soon();
  if (what === "data") data();
  if (what === "state") state();
  if (what === "hover") hover();
});

// --- doing --------------------------------------------------------------------------------------------------------

link.done = ({ did, particle }) => {
  if (!model.particles.has(particle)) return;
  const one = model.particles.get(particle);
  if (did === "add") model.choose(particle);
  if (did === "undo" || did === "redo") { model.choose(particle); model.lookAt(one.voxel); }
};
function judge(verdict) {
  const one = model.picked;
  if (!one) { go(false); return; }
  const next = model.nextOpen(one);
  link.ask({ do: "judge", particle: one.number, verdict });
  one.verdict = verdict; // until the server says so
  if (next && next.number !== one.number) model.jump(next);
}
function go(back) {
  const next = model.nextOpen(model.picked, back);
  if (next) model.jump(next);
}
function remove() {
  if (model.picked) link.ask({ do: "remove", particle: model.chosen });
}
function relabel(label) {
  if (model.picked && model.picked.label !== label) link.ask({ do: "relabel", particle: model.chosen, label });
}
function nudge(right, up) {
  const one = model.picked, plane = model.under ?? planes[0];
  if (!one) return;
  const voxel = [...one.voxel];
  voxel[plane.right] = Math.round(voxel[plane.right]) + right;
  voxel[plane.up] = Math.round(voxel[plane.up]) + up;
  link.ask({ do: "move", particle: one.number, voxel });
  one.voxel = voxel; // until the server says so: the next key may come before
  model.lookAt(voxel);
}
function finish() { link.ask({ do: "finish" }); }
function smooth() { grey.setSmooth(+find("smooth").value, find("unit").value); }
function toggle(name, field) { model[field] = find(name).checked; soon(); }

const actions = {
  undo: () => link.ask({ do: "undo" }), redo: () => link.ask({ do: "redo" }), finish, remove,
  accept: () => judge("accepted"), reject: () => judge("rejected"), next: () => go(false), previous: () => go(true),
  auto: () => grey.auto(), invert: () => grey.invert(), help: () => find("keys").showModal(), look: () => model.setLabel(null),
};
for (const [name, action] of Object.entries(actions)) {
  find(name).addEventListener("click", () => { action(); document.activeElement?.blur(); });
}
find("relabel").addEventListener("change", () => { relabel(+find("relabel").value); find("relabel").blur(); });
find("smooth").value = facts.smooth.amount;
find("unit").value = facts.smooth.unit;
find("smooth").addEventListener("change", smooth);
find("unit").addEventListener("change", smooth);
find("circles").addEventListener("change", () => toggle("circles", "circles"));
find("rejected").addEventListener("change", () => toggle("rejected", "showRejected"));

const keys = {
  Escape: () => model.setLabel(null), Delete: remove, Backspace: remove, " ": () => model.picked && model.jump(model.picked),
  a: actions.accept, r: actions.reject, n: actions.next, p: actions.previous, f: fit, b: actions.auto, i: actions.invert, "?": actions.help,
  h: () => { find("circles").checked = !find("circles").checked; toggle("circles", "circles"); },
  w: (event) => model.under.step(event.shiftKey ? 10 : 1), s: (event) => model.under.step(event.shiftKey ? -10 : -1),
  PageUp: () => model.under.step(10), PageDown: () => model.under.step(-10),
  "+": () => model.under.zoom(0.8), "=": () => model.under.zoom(0.8), "-": () => model.under.zoom(1.25),
  ArrowLeft: () => nudge(-1, 0), ArrowRight: () => nudge(1, 0), ArrowUp: () => nudge(0, 1), ArrowDown: () => nudge(0, -1),
};
document.addEventListener("keydown", (event) => {
  if (find("keys").open || /^(SELECT|TEXTAREA)$/.test(event.target.tagName) || event.target.type === "number") return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.metaKey) {
    if (key === "z") (event.shiftKey ? actions.redo : actions.undo)();
    else if (key === "y") actions.redo();
    else return;
    event.preventDefault();
    return;
  }
  const digit = /^(Digit|Numpad)([1-9])$/.exec(event.code);
  const one = digit && facts.classes[+digit[2] - 1];
  if (one) { if (event.shiftKey) relabel(one.label); else model.setLabel(one.label); }
  else if (!digit && keys[key] && !event.altKey) keys[key](event);
  else return;
  event.preventDefault();
});
window.addEventListener("resize", layout);

fit();
if (facts.review) {
  // Near enough to judge by: the largest class takes an eighth of the picture.
  const largest = Math.max(...facts.classes.map((one) => one.radius));
  model.scale = Math.min(model.scale, (16 * largest) / Math.max(1, planes[0].height));
  go(false);
}
model.placed = true;
model.notify("data");
state();
document.body.dataset.ready = true;
