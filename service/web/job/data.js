// What the job's data is: what each step told of it, what was measured of the rows, and some rows with what is trained in colour.

import { get, post } from "../api.js";
import { fill, h } from "../dom.js";
import { count, estimate, number, percent } from "../format.js";
import { say } from "../notes.js";
import { go, to } from "../route.js";
import { maskedRow, maskedText } from "./masked.js";

const TOLD = ["data_loaded", "data_packed"];
const OF_ROWS = ["rows", "data"];

export async function side(place, job, { signal }) {
  const told = h("div", { class: "cards" });
  const measured = h("div", {});
  const rows = h("div", {});
  fill(place, told, measured, rows);
  const seen = [];
  const look = async () => {
    const [metrics, artifacts, surprisal] = await Promise.all([
      get(`/jobs/${job.id}/metrics`, { signal }),
      get(`/jobs/${job.id}/artifacts`, { signal }),
      get(`/jobs/${job.id}/surprisal`, { signal }),
    ]);
    fill(measured, table(metrics.data, job));
    const inspection = artifacts.data.find((one) => one.name === "inspection.json");
    fill(rows, inspection ? report(await get(inspection.url, { signal })) : [measuredRows(surprisal.data), offer(job)]);
  };
  await look();
  return {
    event(event) {
      if (TOLD.includes(event.kind)) fill(told, (seen.push(event), seen.map(card)));
      if (["step_finished", "measured"].includes(event.kind)) look().catch(() => null);
    },
  };
}

function card({ message, data }) {
  const facts = Object.entries(data).filter(([, value]) => typeof value === "number");
  const share = data.tokens && data.trained_tokens !== undefined ? data.trained_tokens / data.tokens : null;
  return h(
    "section",
    { class: "card" },
    h("p", {}, message),
    share === null
      ? null
      : h(
          "div",
          { class: "bar", role: "img", "aria-label": `${percent(share)} of the tokens are trained` },
          h("span", { style: { "--share": `${100 * share}%` } }),
        ),
    h(
      "dl",
      { class: "pairs" },
      facts.map(([name, value]) => [h("dt", {}, name.replaceAll("_", " ")), h("dd", { class: "number left" }, count(value))]),
    ),
  );
}

// What was taken on rows or on the text that is trained on; in a step that inspects, all.
function table(measured, job) {
  const inspects = new Set(job.steps.filter((step) => step.do === "inspect").map((step) => step.name));
  const rows = measured.flatMap((entry) =>
    Object.entries(entry.measures).flatMap(([name, one]) =>
      OF_ROWS.includes(one.on) || inspects.has(entry.step) ? [[entry, name, one]] : [],
    ),
  );
  if (!rows.length) return null;
  const made = rows.map(([entry, name, one]) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, h("a", { href: to(`/measures/${name.split(":")[0]}`) }, name)),
      h("td", { class: "number nowrap" }, estimate(one.value, one.standard_error, one.interval)),
      h("td", {}, one.unit === "1" ? "" : one.unit),
      h("td", {}, entry.step),
      h("td", { class: "quiet small" }, one.estimator),
    ),
  );
  const head = ["measure", "value", "unit", "step", "estimator"].map((name) =>
    h("th", { scope: "col", class: name === "value" ? "number" : null }, name),
  );
  return h(
    "section",
    { class: "card" },
    h("h2", {}, "Measured of the rows"),
    h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Measured of the rows" },
      h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, made)),
    ),
  );
}

function report(found) {
  return [
    alike("Rows that repeat another", found.duplicates),
    alike("Held-out rows that stand in the training rows", found.leaks),
    h(
      "section",
      { class: "card" },
      h("h2", {}, "Rows as the model reads them"),
      legend(),
      found.examples.map((one) => maskedRow(one)),
    ),
  ];
}

// A few rows that the checkpoints are measured on: read as those that are trained are, with the same mask.
function measuredRows(surprisal) {
  const those = surprisal.filter((one) => one.split !== "anchor");
  if (!those.length) return null;
  const rows = those.flatMap(({ step, split, texts }) =>
    texts.map((text, index) => maskedText(text, [those.length > 1 ? step : null, split, `text ${index + 1}`].filter(Boolean).join(", "))),
  );
  const what = "The first that the checkpoints are measured on, read as those are that are trained on: what is coloured is scored here, and trained there.";
  return h("section", { class: "card" }, h("h2", {}, "Rows as the model reads them"), h("p", { class: "quiet" }, what), legend(), rows);
}

const legend = () =>
  h(
    "p",
    { class: "row small" },
    h("span", { class: "token trained" }, "trained"),
    h("span", { class: "token masked" }, "read, not trained"),
  );

function alike(title, pairs) {
  if (!pairs.length) return null;
  const rows = pairs.map((one) =>
    h(
      "tr",
      {},
      h("td", {}, `${one.file}, row ${one.row}`),
      h("td", {}, `${one.like_file}, row ${one.like_row}`),
      h("td", { class: "number" }, percent(one.shared_n_grams)),
      h("td", { class: "number" }, percent(one.bits_saved)),
    ),
  );
  const head = ["row", "is like", "n-grams in common", "bits saved by it"].map((name, index) =>
    h("th", { scope: "col", class: index > 1 ? "number" : null }, name),
  );
  return h(
    "section",
    { class: "card" },
    h("h2", {}, title),
    h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": title },
      h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows)),
    ),
  );
}

// A job that trains leaves no rows; a short job of its own looks at them, with this job's own arguments.
function offer(job) {
  const steps = job.resolved.steps.filter((step) => (step.do ?? "train") === "train" && step.data?.dataset?.length);
  if (!steps.length) return null;
  const buttons = steps.flatMap((step) =>
    step.data.dataset.map((name) =>
      h(
        "button",
        { type: "button", onclick: (event) => inspect(event.target, step, name) },
        `Look at ${name} as ${step.name} reads it`,
      ),
    ),
  );
  return h(
    "section",
    { class: "card" },
    h("h2", {}, "Rows that are trained on"),
    h(
      "p",
      { class: "quiet" },
      "A job that trains keeps none of its rows. A short job with no GPU shows some, with what is trained in colour, copies, leaks and entropies.",
    ),
    h("div", { class: "row" }, buttons),
  );
}

async function inspect(button, step, name) {
  button.disabled = true;
  const { template, cutoff_len, dataset_dir, split, max_samples, val_size, train_on_prompt } = step.data;
  const wanted = {
    model: step.model.model_name_or_path,
    template,
    cutoff_len,
    dataset_dir,
    split,
    max_samples,
    val_size,
    train_on_prompt,
  };
  const known = Object.fromEntries(Object.entries(wanted).filter(([, value]) => value !== null && value !== undefined));
  try {
    const made = await post(`/datasets/${encodeURIComponent(name)}/inspect`, known);
    go(`/jobs/${made.id}`, { tab: "data" });
  } catch (problem) {
    say([problem.message, ...(problem.errors ?? []).map((error) => error.detail)].join(" "));
    button.disabled = false;
  }
}
