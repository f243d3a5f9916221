// The checkpoints as a table, ranked if one likes, and as gain against drift.

import { isOver } from "../actions.js";
import { get } from "../api.js";
import { scatterChart } from "../charts/scatter.js";
import { fill, h } from "../dom.js";
import { ago, bytes, estimate, number } from "../format.js";
import { to } from "../route.js";
import { gainFigure } from "./figures.js";

const COLUMNS = [
  "cross_entropy",
  "perplexity",
  "bits_per_byte",
  "entropy",
  "kl_from_base",
  "top_1_accuracy",
  "preference_cross_entropy",
  "accuracy",
];

const CHANGING = ["measured", "checkpoint_saved", "files_removed"];

export async function side(place, job, { query, signal }) {
  const rankBy = query.get("rank_by") ?? "";
  const look = async () => {
    const [{ data: measured }, found] = await Promise.all([
      get(`/jobs/${job.id}/metrics`, { signal }),
      get(`/jobs/${job.id}/checkpoints`, { query: { rank_by: rankBy }, signal }),
    ]);
    if (!signal.aborted) show(place, job, measured, found, rankBy, signal);
  };
  let waiting;
  const soon = () => (clearTimeout(waiting), (waiting = setTimeout(() => signal.aborted || look().catch(() => null), 300)));
  await look();
  return { event: (event) => isOver(job) || (CHANGING.includes(event.kind) && soon()) };
}

function show(place, job, measured, found, rankBy, signal) {
  const all = [
    ...found.data.map((one) => ({ ...one, number: one.global_step })),
    ...found.measured.map((one) => ({ ...one, global_step: null })),
  ];
  if (!all.length && !measured.length) return fill(place, h("p", { class: "empty" }, "No checkpoint has been saved yet."));
  const names = [...new Set(all.map((one) => one.step))];
  const sections = (names.length ? names : [...new Set(measured.map((entry) => entry.step))]).map((step) =>
    ofStep(
      job,
      step,
      all.filter((one) => one.step === step),
      measured.filter((entry) => entry.step === step),
      found.front,
      signal,
    ),
  );
  fill(place, ranking(job, measured, rankBy), sections);
}

function ranking(job, measured, rankBy) {
  const names = [...new Set(measured.flatMap((entry) => Object.keys(entry.measures)))].filter(
    (name) => COLUMNS.includes(name) && name !== "entropy",
  );
  const choose = h(
    "select",
    { id: "rank", onchange: () => (location.hash = to(`/jobs/${job.id}`, { tab: "checkpoints", rank_by: choose.value })) },
    h("option", { value: "" }, "as they came"),
    names.map((name) => h("option", { value: name, selected: name === rankBy }, name)),
  );
  return h(
    "p",
    { class: "row rank" },
    h("label", { for: "rank" }, "Order"),
    choose,
    rankBy ? h("span", { class: "quiet" }, "The first is the earliest within one standard error of the best.") : null,
  );
}

function ofStep(job, step, checkpoints, measured, front, signal) {
  const columns = COLUMNS.filter((name) => measured.some((entry) => entry.measures[name]));
  const base = measured.find((entry) => entry.checkpoint === "base" && entry.split !== "anchor");
  const rows = [base ? baseRow(base, columns) : null, ...checkpoints.map((one) => row(job, one, measured, columns))];
  const head = [
    "checkpoint",
    ...columns.map((name) => ({ name, label: name, unit: unitOf(measured, name) })),
    { label: "gain", unit: "bits/token" },
    "alerts",
    "files",
  ];
  const chart = scatterChart(gainFigure([{ name: "", entries: measured, front }], { step }), { signal });
  return h(
    "section",
    { class: "card" },
    h("h2", {}, step),
    h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": `Checkpoints of ${step}` },
      h("table", {}, h("thead", {}, h("tr", {}, head.map(headCell))), h("tbody", {}, rows)),
    ),
    measured.some((entry) => entry.measures.kl_from_base) ? chart.element : null,
  );
}

function headCell(cell) {
  if (typeof cell === "string") return h("th", { scope: "col" }, cell);
  const { name, label, unit } = cell;
  return h(
    "th",
    { scope: "col", class: "number" },
    name ? h("a", { href: to(`/measures/${name}`) }, label) : label,
    h("br"),
    h("span", { class: "small" }, unit),
  );
}

const unitOf = (measured, name) => {
  const unit = measured.find((entry) => entry.measures[name])?.measures[name].unit;
  return unit === "1" ? "" : unit;
};

const baseRow = (entry, columns) =>
  h(
    "tr",
    {},
    h("th", { scope: "row" }, "base"),
    columns.map((name) => value(entry.measures[name])),
    h("td"),
    h("td"),
    h("td"),
  );

function row(job, one, measured, columns) {
  const entries = measured.filter((entry) => entry.checkpoint === one.number);
  const task = entries.find((entry) => entry.split !== "anchor");
  const gain = task?.measures.cross_entropy?.versus_base;
  const alerts = entries.flatMap((entry) => entry.alerts.map((alert) => alert.alert));
  const name = [
    h("a", { href: to(`/jobs/${job.id}`, { tab: "tokens", step: one.step, checkpoint: one.number }) }, String(one.number)),
    one.of ? h("span", { class: "quiet small" }, ` ${named(one.of)}`) : null,
  ];
  return h(
    "tr",
    {},
    h(
      "th",
      { scope: "row", class: "nowrap" },
      one.rank ? h("span", { class: "place" }, `${one.rank.place}. `) : null,
      name,
      one.pareto ? h("span", { class: "tag front", title: "No other gains as much with as little drift." }, "front") : null,
    ),
    columns.map((column) => value(task?.measures[column] ?? entries[0]?.measures[column])),
    h("td", { class: "number nowrap" }, gain ? estimate(-gain.value, gain.standard_error) : "–"),
    h(
      "td",
      {},
      alerts.map((alert) => h("span", { class: "tag alert" }, alert.replaceAll("_", " "))),
    ),
    h("td", { class: "nowrap small" }, files(one)),
  );
}

const value = (one) =>
  h(
    "td",
    {
      class: "number nowrap",
      title: one?.interval
        ? `95 % interval ${number(one.interval[0])} to ${number(one.interval[1])}; ${one.n_documents} documents`
        : (one?.interval_reason ?? null),
    },
    one ? estimate(one.value, one.standard_error) : "–",
  );

const named = (of) => of.model ?? `${of.job_id}/${of.step}/${of.checkpoint ?? "end"}`;

function files(one) {
  if (one.global_step === null) return "";
  if (one.removed_at) return h("span", { class: "quiet" }, `given up ${ago(one.removed_at)}`);
  const links = one.files.map((file) => h("li", {}, h("a", { href: file.url, download: "" }, file.name), ` ${bytes(file.size)}`));
  return h("details", {}, h("summary", {}, bytes(one.size)), h("ul", { class: "plain" }, links));
}
