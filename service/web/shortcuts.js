// Keys of the keyboard: g and a letter goes to a view, / finds the filter, ? shows them all. None while something is written.

import { h } from "./dom.js";
import { go } from "./route.js";

const PLACES = { o: ["/", "overview"], j: ["/jobs", "jobs"], s: ["/submit", "submit"], c: ["/compare", "compare"], m: ["/measures", "measures"], w: ["/workers", "workers"] };
const PATIENCE = 1500;

export function shortcuts() {
  let gAt = -Infinity;
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isWriting(event.target)) return;
    const isSecond = performance.now() - gAt < PATIENCE;
    gAt = -Infinity;
    if (isSecond && event.key in PLACES) return done(event, () => go(PLACES[event.key][0]));
    if (event.key === "g") gAt = performance.now();
    else if (event.key === "/") done(event, () => document.querySelector("[data-filter]")?.focus());
    else if (event.key === "?") done(event, showAll);
  });
}

function done(event, act) {
  event.preventDefault();
  act();
}

const isWriting = (target) => target.matches?.("input, textarea, select, [contenteditable]");

function showAll() {
  const rows = Object.entries(PLACES).map(([key, [, name]]) => [`g ${key}`, `go to ${name}`]);
  const all = [...rows, ["/", "to the filter"], ["?", "this list"], ["Esc", "close"]];
  const dialog = h(
    "dialog",
    { "aria-label": "Keys", onclose: () => dialog.remove() },
    h("h2", {}, "Keys"),
    h("dl", { class: "keys" }, all.map(([key, what]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)))),
    h("form", { method: "dialog" }, h("button", {}, "Close")),
  );
  document.body.append(dialog);
  dialog.showModal();
}
