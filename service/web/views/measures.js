// The catalogue: what can be measured, in which unit, and what each is for.

import { get } from "../api.js";
import { fill, h } from "../dom.js";
import { note, to } from "../route.js";
import { formula } from "../typeset.js";
import { DECISIONS, FOR } from "../measures/purpose.js";

const PLACES = { jobs: "At checkpoints", library: "In the library", alerts: "Alerts" };

export async function show(page, { query }, signal) {
  document.title = "Measures – Finebits";
  const { data, alerts } = await get("/measures", { signal });
  const filter = h("input", {
    id: "measure-filter",
    type: "search",
    placeholder: "entropy, forgetting, adapter …",
    value: query.get("q") ?? "",
    "data-filter": true,
    oninput: () => look(),
  });
  const where = h(
    "select",
    { id: "measure-where", onchange: () => look() },
    Object.entries(PLACES).map(([value, label]) =>
      h("option", { value, selected: value === (query.get("in") ?? "jobs") }, label),
    ),
  );
  const count = h("p", { class: "quiet", role: "status" });
  const list = h("div", { class: "measures" });
  const look = () => {
    note({ q: filter.value, in: where.value === "jobs" ? null : where.value });
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const has = (one) =>
      words.every((word) =>
        JSON.stringify([one, FOR[one.name] ?? ""])
          .toLowerCase()
          .includes(word),
      );
    const found = (where.value === "alerts" ? alerts : data.filter((one) => one.in_jobs === (where.value === "jobs"))).filter(
      has,
    );
    count.textContent = `${found.length} of them`;
    fill(list, where.value === "alerts" ? found.map(alert) : groups(found).map(([title, those]) => group(title, those)));
  };
  fill(
    page,
    h("h1", {}, "Measures"),
    h(
      "p",
      { class: "quiet" },
      "What is measured, in bits where nothing else is said, with the formula, what it is taken on, and what one does with it. lg is the logarithm to base 2.",
    ),
    h(
      "div",
      { class: "row filters" },
      h("label", { for: "measure-filter", class: "visually-hidden" }, "Filter"),
      filter,
      h("label", { for: "measure-where", class: "visually-hidden" }, "Which"),
      where,
      count,
    ),
    list,
  );
  look();
}

function groups(found) {
  const by = new Map(Object.keys(DECISIONS).map((on) => [on, []]));
  for (const one of found) (by.get(one.on ?? "") ?? by.get("")).push(one);
  return [...by].filter(([, those]) => those.length).map(([on, those]) => [DECISIONS[on], those]);
}

function group(title, those) {
  const id = `on-${title.replace(/\W+/g, "-")}`;
  return h("section", { "aria-labelledby": id }, h("h2", { id }, title), h("div", { class: "grid wide" }, those.map(card)));
}

function card(one) {
  return h(
    "article",
    { class: "card measure" },
    h("h3", {}, h("a", { href: to(`/measures/${one.name}`) }, one.name)),
    h(
      "p",
      { class: "row small" },
      h("span", { class: "tag" }, one.unit === "1" ? "no unit" : one.unit),
      one.default ? h("span", { class: "tag" }, "in every job") : null,
      one.better ? h("span", { class: "tag" }, `${one.better} is better`) : null,
    ),
    one.formula ? formula(one.formula) : h("p", { class: "small" }, one.definition),
    FOR[one.name] ? h("p", { class: "small" }, FOR[one.name]) : null,
  );
}

function alert(one) {
  return h(
    "article",
    { class: "card" },
    h("h2", {}, one.name.replaceAll("_", " ")),
    h("p", {}, `Fires where it is shown that not: ${one.null}.`),
    h(
      "dl",
      { class: "pairs" },
      [
        ["looks at", one.statistic],
        ["limit", `${Number(one.threshold.toPrecision(3))} ${one.unit}`],
        ["test", one.test],
        ["suggests", one.suggests],
        ["source", one.source],
      ].map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
    ),
  );
}
