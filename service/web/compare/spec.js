// What was asked for differently: every argument whose value is not the same in all jobs.

import { h } from "../dom.js";

export function differences(jobs) {
  const flats = jobs.map(({ job, step }) => flat(job.resolved.steps?.find((one) => one.name === step.name) ?? job.resolved));
  const names = [...new Set(flats.flatMap((one) => Object.keys(one)))].filter(
    (name) => new Set(flats.map((one) => JSON.stringify(one[name]))).size > 1,
  );
  const title = h("h2", {}, "What was asked for differently");
  if (!names.length)
    return h(
      "section",
      { class: "card" },
      title,
      h("p", { class: "quiet" }, jobs.length < 2 ? "There is one job." : "Nothing: every argument of these steps is the same."),
    );
  const head = h(
    "tr",
    {},
    h("th", { scope: "col" }, "argument"),
    jobs.map((one) => h("th", { scope: "col" }, one.name)),
  );
  const rows = names.sort().map((name) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, h("code", {}, name)),
      flats.map((one) => h("td", {}, name in one ? h("code", {}, said(one[name])) : h("span", { class: "quiet" }, "–"))),
    ),
  );
  return h(
    "section",
    { class: "card" },
    title,
    h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Difference of their specs" },
      h("table", {}, h("thead", {}, head), h("tbody", {}, rows)),
    ),
  );
}

// {data: {dataset: ["x"]}} -> {"data.dataset": ["x"]}
export function flat(value, prefix = "") {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return { [prefix]: value };
  return Object.assign({}, ...Object.entries(value).map(([name, inner]) => flat(inner, prefix ? `${prefix}.${name}` : name)));
}

const said = (value) => (typeof value === "string" ? value : JSON.stringify(value));
