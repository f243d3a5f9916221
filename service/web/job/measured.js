// Everything that was measured, as numbers: a row for each measure, a column for the base and each of the last checkpoints.

import { h } from "../dom.js";
import { estimate, number, signed } from "../format.js";
import { to } from "../route.js";

const MOST_COLUMNS = 9;

// `entries` are those of GET /jobs/{id}/metrics, of one step.
export function measuredTables(entries, isOpen) {
  const splits = [...new Set(entries.map((entry) => entry.split))];
  const tables = splits.map((split) =>
    table(
      entries.filter((entry) => entry.split === split),
      split,
    ),
  );
  return h("details", { class: "numbers card", open: isOpen }, h("summary", {}, "Every measure, as numbers"), tables);
}

function table(entries, split) {
  const base = entries.filter((entry) => entry.checkpoint === "base");
  const columns = [...base, ...entries.filter((entry) => entry.checkpoint !== "base").slice(base.length - MOST_COLUMNS)];
  const names = [...new Set(columns.flatMap((entry) => Object.keys(entry.measures)))].sort();
  const head = ["measure", "unit", ...columns.map((entry) => String(entry.checkpoint))];
  const more = entries.length - columns.length;
  return h(
    "section",
    {},
    h("h3", {}, `On ${split}`),
    more > 0 ? h("p", { class: "quiet small" }, `${more} earlier checkpoints are not shown here.`) : null,
    h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": `Measures on ${split}` },
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            head.map((cell, index) => h("th", { scope: "col", class: index > 1 ? "number" : null }, cell)),
          ),
        ),
        h(
          "tbody",
          {},
          names.map((name) => row(name, columns)),
        ),
      ),
    ),
  );
}

function row(name, columns) {
  const unit = columns.find((entry) => entry.measures[name]).measures[name].unit;
  const link = h("a", { href: to(`/measures/${name.split(":")[0]}`) }, name);
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, link),
    h("td", {}, unit === "1" ? "" : unit),
    columns.map((entry) => cell(entry.measures[name])),
  );
}

function cell(one) {
  if (!one) return h("td", { class: "number" }, "–");
  const said = [
    one.interval ? `95 % interval ${number(one.interval[0])} to ${number(one.interval[1])}` : one.interval_reason,
    one.versus_base?.value != null ? `${signed(one.versus_base.value)} from the base` : null,
    `${one.n_documents} documents`,
    one.estimator,
  ];
  return h("td", { class: "number nowrap", title: said.filter(Boolean).join("; ") }, estimate(one.value, one.standard_error));
}
