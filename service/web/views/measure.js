// One measure: its formula, what it is taken on, how it is estimated, where it comes from, and what it is for.

import { get } from "../api.js";
import { h } from "../dom.js";
import { DECISIONS, FOR } from "../measures/purpose.js";
import { to } from "../route.js";
import { formula } from "../typeset.js";

export async function show(page, { name }, signal) {
  const { data, alerts } = await get("/measures", { signal });
  const index = data.findIndex((one) => one.name === name || one.aliases.includes(name));
  const one = data[index];
  document.title = `${name} – Finebits`;
  if (!one)
    return page.append(
      h("h1", {}, "No such measure"),
      h("p", {}, h("a", { href: to("/measures", { q: name }) }, "Look for it in the catalogue"), "."),
    );
  const facts = [
    ["unit", one.unit === "1" ? "none" : one.unit],
    ["taken on", one.on ? DECISIONS[one.on] : null],
    ["computed on", one.computed_on],
    ["estimated", one.estimator],
    ["better", one.better ? `${one.better}: checkpoints are ranked by it` : "neither: it ranks no checkpoints"],
    [
      "in a job",
      one.default
        ? "in every job that names none"
        : one.in_jobs
          ? h("span", {}, "when named: ", h("code", {}, `measures.names: ${one.name}`))
          : "no: a function of the library",
    ],
    ["function", one.function ? h("code", {}, `worker.information.${one.function}`) : null],
    ["also called", one.aliases.join(", ")],
    ["source", one.source],
  ].filter(([, value]) => value);
  page.append(
    h("p", {}, h("a", { href: to("/measures", { in: one.in_jobs ? null : "library" }) }, "Measures")),
    h("h1", {}, one.name),
    FOR[one.name] ? h("p", { class: "lead" }, FOR[one.name]) : "",
    h("section", { class: "card" }, one.formula ? formula(one.formula) : "", h("p", {}, one.definition)),
    h(
      "section",
      { class: "card" },
      h(
        "dl",
        { class: "pairs" },
        facts.map(([label, value]) => [h("dt", {}, label), h("dd", {}, value)]),
      ),
    ),
    watched(alerts.filter((alert) => alert.needs.includes(one.name))),
    notebook(one),
    neighbours(data, index),
  );
}

function watched(alerts) {
  if (!alerts.length) return "";
  return h(
    "section",
    { class: "card" },
    h("h2", {}, "Alerts that look at it"),
    h(
      "ul",
      {},
      alerts.map((alert) =>
        h(
          "li",
          {},
          h("strong", {}, alert.name.replaceAll("_", " ")),
          `: ${alert.statistic}, limit ${Number(alert.threshold.toPrecision(3))} ${alert.unit}. It suggests ${alert.suggests}.`,
        ),
      ),
    ),
  );
}

function notebook({ row, notebook: place }) {
  if (!place) return "";
  return h(
    "section",
    { class: "card" },
    h("h2", {}, `Number ${row} of the notebook that this project began with`),
    h("p", {}, "Its formula there: ", h("code", {}, place.formula || "none")),
    h("p", {}, h("strong", {}, place.verdict), place.why ? `: ${place.why}` : ""),
  );
}

function neighbours(data, index) {
  const link = (one, label) => (one ? h("a", { href: to(`/measures/${one.name}`) }, label, one.name) : h("span"));
  return h("nav", { class: "head", "aria-label": "Neighbours" }, link(data[index - 1], "← "), link(data[index + 1], "→ "));
}
