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
  const tokens = one.token_texts.map((text, index) =>
    h(
      "span",
      {
        class: one.mask[index] ? "token trained" : "token masked",
        title: `${one.token_ids[index]} · ${one.mask[index] ? "trained" : "read, not trained"}`,
      },
      visible(text),
    ),
  );
  return h(
    "article",
    { class: "row-shown" },
    h("h3", { class: "small quiet" }, said),
    h("p", { class: "tokens" }, tokens, more > 0 ? h("span", { class: "quiet" }, ` and ${count(more)} more`) : null),
  );
}

// White space that would not be seen is shown, and still breaks the line.
export function visible(text) {
  return text === "" ? "∅" : text.replaceAll("\n", "↵\n").replaceAll("\t", "⇥");
}
