// What a job would do, beside its form: the dry run's answer, or what speaks against the job.

import { h } from "../dom.js";
import { bytes, count, percent } from "../format.js";

const PARTS = { weights: "weights", beside: "models beside it", gradients: "gradients", optimiser: "optimiser", activations: "activations", logits: "logits", context: "CUDA itself" };

export function planOf(plan) {
  return [
    plan.notices.map((notice) => h("p", { class: "notice small" }, h("code", {}, notice.pointer), " ", notice.detail)),
    plan.steps.map(stepOf),
    h("details", {}, h("summary", {}, "The job as it would run"), h("pre", { class: "small", tabindex: 0 }, JSON.stringify(plan.resolved, null, 2))),
  ];
}

// The same in a line, for where there is no room beside the form.
export function inShort({ steps }) {
  const updates = steps.map((step) => step.updates).filter((one) => one !== null);
  const peaks = steps.map((step) => step.memory?.peak).filter(Boolean);
  const said = [
    steps.length > 1 ? `${steps.length} steps` : null,
    updates.length ? `${count(updates.reduce((sum, one) => sum + one, 0))} updates` : null,
    peaks.length ? `${bytes(Math.max(...peaks))} of GPU memory` : null,
  ].filter(Boolean);
  return `What it would do${said.length ? `: ${said.join(", ")}` : ""}`;
}

// `goTo(pointer)` leads to the field that an error is about.
export function refusalsOf(problem, goTo) {
  const errors = problem.errors.length ? problem.errors : [{ pointer: "", detail: problem.message }];
  const place = ({ pointer }) => (pointer ? h("button", { type: "button", class: "link mono", onclick: () => goTo(pointer) }, pointer) : null);
  return h("ul", { class: "refusals" }, errors.map((error) => h("li", {}, place(error), " ", error.detail)));
}

function stepOf(step) {
  const what = [step.do === "train" ? null : step.do, step.stage, step.finetuning_type].filter(Boolean).join(", ");
  const numbers = [
    ["Rows", step.rows, "rows"],
    ["to train on", step.training_rows, "training_rows"],
    ["to validate on", step.validation_rows, "validation_rows"],
    ["measured", step.measured_rows, "measured_rows"],
    ["Updates", step.updates, "updates"],
    ["Parameters", step.parameters, "parameters"],
    ["trained", step.trainable_parameters, "trainable_parameters"],
  ];
  const shown = numbers.map(([name, value, key]) => pair(name, key === "trainable_parameters" ? trained(step) : value, step.why_unknown[key]));
  return h("section", { class: "step" }, h("h3", {}, step.name, h("span", { class: "quiet small" }, ` ${what}`)), h("dl", { class: "pairs small" }, shown, memoryOf(step)));
}

function pair(name, value, why) {
  if (value === null && !why) return null;
  return [h("dt", {}, name), h("dd", {}, value === null ? h("span", { class: "quiet" }, why) : typeof value === "number" ? count(value) : value)];
}

function trained({ parameters, trainable_parameters: n }) {
  if (n === null) return null;
  return parameters ? `${count(n)} (${percent(n / parameters, 2)})` : count(n);
}

function memoryOf({ memory, why_unknown: why }) {
  if (memory === null) return pair("GPU memory", null, why.memory);
  const parts = Object.entries(PARTS).filter(([part]) => memory[part] > 0);
  const bars = parts.map(([part], n) => h("span", { class: `part part-${n + 1}`, style: { "flex-grow": String(memory[part]) }, title: `${PARTS[part]}: ${bytes(memory[part])}` }));
  const list = parts.map(([part, name], n) => h("li", {}, h("span", { class: `part part-${n + 1}`, "aria-hidden": "true" }), `${name} ${bytes(memory[part])}`));
  return [h("dt", {}, "GPU memory"), h("dd", {}, `${bytes(memory.peak)} at its peak, estimated`, h("div", { class: "memory", "aria-hidden": "true" }, bars), h("ul", { class: "legend" }, list))];
}
