// A word at the edge of the page that goes by itself, and is read out.

import { h } from "./dom.js";

const SECONDS = 6;

export function say(sentence) {
  const note = h("p", {}, sentence);
  document.getElementById("notes").append(note);
  setTimeout(() => note.remove(), SECONDS * 1000);
}
