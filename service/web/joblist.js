// Jobs as rows of a table: the overview's few and the list's many.

import { h } from "./dom.js";
import { ago, duration, number, secondsBetween } from "./format.js";
import { to } from "./route.js";

const STAGES = { train: (step) => step.stage };

// With `chosen`, a set of ids, rows can be chosen; `onChoice` is told when it changes.
export function jobTable(jobs, label, chosen = null, onChoice = null) {
  const choice = chosen ? h("th", { scope: "col" }, h("span", { class: "visually-hidden" }, "Compare")) : null;
  const head = h("tr", {}, choice, ["Job", "State", "What", "Progress", "Took", "Created"].map((name) => h("th", { scope: "col", class: name === "Took" ? "number" : null }, name)));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, h("table", { class: "jobs" }, h("thead", {}, head), h("tbody", {}, jobs.map((job) => jobRow(job, chosen, onChoice)))));
}

export function jobRow(job, chosen = null, onChoice = null) {
  const labels = Object.entries(job.labels).map(([key, value]) => h("a", { class: "tag", href: to("/jobs", { label: `${key}:${value}` }) }, `${key}: ${value}`));
  return h(
    "tr",
    { "data-job": job.id },
    chosen ? h("td", { class: "choice" }, choiceOf(job, chosen, onChoice)) : null,
    h("td", { class: "what" }, h("a", { href: to(`/jobs/${job.id}`) }, job.name ?? job.id), labels.length ? h("div", { class: "row labels" }, labels) : null),
    h("td", {}, h("span", { class: "state", "data-state": job.state }, job.state), job.reason ? h("div", { class: "small quiet" }, job.reason) : null),
    h("td", { class: "small" }, job.steps.map((step) => STAGES[step.do]?.(step) ?? step.do).join(" → ")),
    h("td", { class: "small progress" }, progressOf(job)),
    h("td", { class: "number nowrap" }, job.started_at ? duration(secondsBetween(job.started_at, job.finished_at)) : "–"),
    h("td", { class: "nowrap quiet", title: job.created_at }, ago(job.created_at)),
  );
}

function choiceOf(job, chosen, onChoice) {
  const told = (event) => {
    if (event.target.checked) chosen.add(job.id);
    else chosen.delete(job.id);
    onChoice();
  };
  return h("input", { type: "checkbox", "aria-label": `Compare ${job.name ?? job.id}`, checked: chosen.has(job.id), onchange: told });
}

function progressOf({ state, progress }) {
  if (state !== "running" || !progress) return progress?.held ?? "";
  const { global_step: at, max_steps: of, loss, eta_seconds: left } = progress;
  if (!of) return progress.phase ?? "";
  const share = Math.min(100, (100 * (at ?? 0)) / of);
  const said = [`${at ?? 0} of ${of}`, loss == null ? null : `loss ${number(loss)}`, left == null ? null : `${duration(left)} left`];
  return [h("div", { class: "bar", "aria-hidden": "true" }, h("span", { style: { "--share": `${share}%` } })), said.filter(Boolean).join(" · ")];
}
