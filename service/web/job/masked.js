// A row as the model reads it, token by token, with what is trained in one colour and what is only read in another.

import { h } from "../dom.js";
import { count } from "../format.js";

// `one` is an example of inspection.json.
export function maskedRow(one) {
  const more = one.tokens - one.token_ids.length;
  const said = [
    `${one.file}, row ${one.row}`,
    `${count(one.tokens)} tokens`,
    one.beyond_cutoff ? `${count(one.beyond_cutoff)} beyond cutoff_len` : null,
  ]
    .filter(Boolean)
    .join(" · ");
  const tokens = one.token_texts.map((text, index) => token(text, one.mask[index], `${one.token_ids[index]} · `));
  return shownRow(said, [tokens, more > 0 ? h("span", { class: "quiet" }, ` and ${count(more)} more`) : null]);
}

// `text` is one of GET /jobs/{id}/surprisal: what is scored of it is what would be trained of such a row.
export function maskedText(text, title) {
  const scored = new Set(text.scored);
  const tokens = text.tokens.map((one, index) => token(one, scored.has(index)));
  return shownRow(`${title} · ${count(text.tokens.length)} tokens`, tokens);
}

const token = (text, isTrained, before = "") =>
  h(
    "span",
    { class: isTrained ? "token trained" : "token masked", title: `${before}${isTrained ? "trained" : "read, not trained"}` },
    visible(text),
  );

const shownRow = (title, tokens) =>
  h("article", { class: "row-shown" }, h("h3", { class: "small quiet" }, title), h("p", { class: "tokens" }, tokens));

// White space that would not be seen is shown, and still breaks the line.
export function visible(text) {
  return text === "" ? "∅" : text.replaceAll("\n", "↵\n").replaceAll("\t", "⇥");
}
