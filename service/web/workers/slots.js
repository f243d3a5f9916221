// A worker's slots as boxes, filled as far as they are taken.

import { get } from "../api.js";
import { h } from "../dom.js";
import { bytes, percent } from "../format.js";
import { to } from "../route.js";

// What the running jobs are called, by their ids, as far as one page of them goes.
export async function runningNames(signal) {
  const { data } = await get("/jobs", { signal, query: { state: "running", limit: 200 } });
  return new Map(data.map((job) => [job.id, job.name ?? job.id]));
}

export function slotBoxes(slots, names) {
  return h("ul", { class: "slots" }, slots.map((slot) => slotBox(slot, names)));
}

function slotBox(slot, names) {
  const name = slot.name ?? (slot.kind === "cpu" ? "CPU" : "GPU");
  const jobs = slot.jobs.map(({ job, fraction }) => h("a", { href: to(`/jobs/${job}`) }, fraction < 1 ? `${short(names.get(job) ?? job)}, ${percent(fraction)}` : short(names.get(job) ?? job)));
  const state = slot.trouble ? "trouble" : slot.used > 0 ? "taken" : "free";
  return h(
    "li",
    { class: "slot", "data-state": state, title: slot.trouble },
    h("div", { class: "row" }, h("strong", {}, `${name} ${slot.position}`), h("span", { class: "small" }, slot.trouble ? "trouble" : slot.used > 0 ? `${percent(slot.used)} taken` : "free")),
    h("div", { class: "bar", "aria-hidden": "true" }, h("span", { style: { "--share": percent(slot.used).replace(" ", "") } })),
    jobs.length ? h("div", { class: "small row" }, jobs) : null,
    reading(slot),
    slot.trouble ? h("div", { class: "small wrong" }, slot.trouble) : null,
  );
}

function reading(slot) {
  const said = [
    slot.memory_bytes ? (slot.memory_used_bytes === null ? bytes(slot.memory_bytes) : `${bytes(slot.memory_used_bytes)} of ${bytes(slot.memory_bytes)}`) : null,
    slot.utilization_percent === null ? null : `${slot.utilization_percent} % busy`,
    slot.temperature_celsius === null ? null : `${slot.temperature_celsius} °C`,
  ].filter(Boolean);
  return said.length ? h("div", { class: "small quiet readings" }, said.map((one) => h("span", {}, one))) : null;
}

const short = (job) => (job.length > 28 ? `${job.slice(0, 27)}…` : job);
