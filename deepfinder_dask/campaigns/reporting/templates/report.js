"use strict";
(() => {
  const one = (what, where = document) => where.querySelector(what);
  const all = (what, where = document) => [...where.querySelectorAll(what)];

  // Filter: a word of the name, the states, flagged ones only; the same for the table and the pictures.
  const word = one("#word"), flagged = one("#flagged"), states = all("input[name=state]");
  const rows = all("#table tbody tr"), cards = all(".gallery figure");
  const filter = () => {
    const text = word.value.trim().toLowerCase();
    const chosen = new Set(states.filter((box) => box.checked).map((box) => box.value));
    const shown = (node) =>
      node.dataset.name.includes(text) && chosen.has(node.dataset.state) && (!flagged || !flagged.checked || node.dataset.flags > 0);
    for (const node of [...rows, ...cards]) node.hidden = !shown(node);
    const left = rows.filter((row) => !row.hidden).length;
    one("#shown").textContent = left === rows.length ? `${rows.length} tomograms` : `${left} of ${rows.length} tomograms`;
    const empty = one("#no-pictures");
    if (empty) empty.hidden = cards.some((card) => !card.hidden);
  };
  for (const control of [word, flagged, ...states]) if (control) control.addEventListener("input", filter);

  // Sort: numbers from the largest first, words from A; what is unknown always comes last.
  const value = (row, column) => row.cells[column].dataset.v;
  for (const head of all("#table thead th")) {
    const button = one("button", head);
    if (!button) continue;
    button.addEventListener("click", () => {
      const numbers = head.classList.contains("number");
      const before = head.getAttribute("aria-sort");
      const rising = before ? before === "descending" : !numbers;
      const order = rows.slice().sort((a, b) => {
        const x = value(a, head.cellIndex), y = value(b, head.cellIndex);
        if (x === "" || y === "") return (x === "") - (y === "");
        const found = numbers ? Number(x) - Number(y) : x.localeCompare(y, undefined, { numeric: true });
        return rising ? found : -found;
      });
      for (const other of all("#table thead th")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      one("#table tbody").append(...order);
    });
  }

  // Layers of the pictures.
  for (const layer of ["labels", "rings"]) {
    for (const box of all(`input[name=${layer}]`)) {
      box.addEventListener("input", () => {
        document.body.classList.toggle(`no-${layer}`, !box.checked);
        for (const other of all(`input[name=${layer}]`)) other.checked = box.checked;
      });
    }
  }

  // Enlarge: the picture again, as large as the window, with what is known of the tomogram.
  const dialog = one("#large");
  let current = null;
  const show = (row) => {
    current = row;
    const picture = one(`#picture-${row.dataset.row} svg`);
    const stage = one(".stage", dialog);
    if (picture) stage.replaceChildren(picture.cloneNode(true));
    else {
      const words = document.createElement("p");
      words.textContent = row.dataset.state === "done" ? "no picture on this page" : `${row.dataset.state}: no picture`;
      stage.replaceChildren(words);
    }
    const told = one(`#told-${row.dataset.row}`).content.cloneNode(true);
    one(".words", dialog).replaceChildren(told);
    if (!dialog.open) dialog.showModal();
  };
  const step = (by) => {
    const left = all("#table tbody tr").filter((row) => !row.hidden);
    const at = left.indexOf(current);
    if (left.length) show(left[(at + by + left.length) % left.length]);
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-open]");
    if (button) show(rows.find((row) => row.dataset.row === button.dataset.open));
    else if (event.target === dialog) dialog.close();
  });
  one("#close").addEventListener("click", () => dialog.close());
  one("#before").addEventListener("click", () => step(-1));
  one("#after").addEventListener("click", () => step(1));
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
})();
