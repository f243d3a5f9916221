// The service at a glance, as it is now.

import { get } from "../api.js";
import { fill, h } from "../dom.js";
import { count, duration, number } from "../format.js";
import { jobTable } from "../joblist.js";
import { poll } from "../poll.js";
import { to } from "../route.js";
import { runningNames, slotBoxes } from "../workers/slots.js";

const SECONDS = 3;

export async function show(page, params, signal) {
  document.title = "Overview – Finebits";
  const body = h("div", { class: "stack" });
  fill(page, h("div", { class: "head" }, h("h1", {}, "Overview"), h("a", { class: "button primary", href: to("/submit") }, "Submit a job")), body);
  const look = async () => {
    const [now, workers, jobs, names] = await Promise.all([
      get("/overview", { signal }),
      get("/workers", { signal }),
      get("/jobs", { signal, query: { limit: 10 } }),
      runningNames(signal),
    ]);
    if (!body.contains(document.activeElement) || document.activeElement === body) fill(body, glance(now), staff(workers.data, names), lately(jobs.data));
    else fill(body.querySelector(".glance").parentElement, ...glance(now).childNodes);
  };
  await poll(SECONDS, look, signal);
}

function glance(now) {
  const sum = (state) => now.queues.reduce((total, queue) => total + queue[state], 0);
  const oldest = Math.max(...now.queues.map((queue) => queue.oldest_queued_seconds ?? 0), 0);
  const failed = now.ended.failed ?? 0;
  const why = Object.entries(now.reasons).map(([reason, n]) => `${n} ${reason}`).join(", ");
  return h(
    "section",
    { "aria-label": "Now" },
    h(
      "dl",
      { class: "glance" },
      figure("Running", count(sum("running")), now.tokens_per_second ? `${number(now.tokens_per_second, 3)} tokens/s` : "", "running"),
      figure("Waiting", count(sum("queued")), oldest ? `the first for ${duration(oldest)}` : "", "queued"),
      figure("Paused", count(sum("paused")), "", "paused"),
      figure("Succeeded in an hour", count(now.ended.succeeded ?? 0), "", "succeeded"),
      figure("Failed in an hour", count(failed), why, "failed", failed > 0),
      figure("Slots in use", `${number(now.slots_used, 3)} of ${now.slots}`, now.slots_in_trouble ? `${now.slots_in_trouble} in trouble` : "", null, now.slots_in_trouble > 0),
    ),
    now.queues.length > 1 ? queues(now.queues) : null,
  );
}

function figure(name, value, note, state, isBad = false) {
  const shown = state ? h("a", { href: to("/jobs", { state }) }, value) : value;
  return h("div", { class: isBad ? "bad" : null }, h("dt", {}, name), h("dd", {}, shown, note ? h("span", { class: "small quiet" }, note) : null));
}

function queues(all) {
  const head = ["Queue", "Running", "Waiting", "Paused", "The first waits"].map((name) => h("th", { scope: "col" }, name));
  const rows = all.map((queue) =>
    h("tr", {}, h("td", {}, queue.queue), [queue.running, queue.queued, queue.paused, duration(queue.oldest_queued_seconds)].map((value) => h("td", {}, value))),
  );
  return h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows)));
}

function staff(workers, names) {
  const here = workers.filter((worker) => worker.status !== "stopped");
  const title = h("h2", {}, "Workers");
  if (!here.length) return h("section", { class: "card" }, title, h("p", { class: "quiet" }, "No worker has reported. Jobs wait until one does: ", h("code", {}, "finebits up"), " starts one, and so does ", h("code", {}, "python -m worker"), "."));
  const rows = here.map((worker) => h("li", {}, h("div", { class: "row" }, h("a", { href: to("/workers") }, worker.name), h("span", { class: "state", "data-state": worker.status }, worker.status)), slotBoxes(worker.slots, names)));
  return h("section", { class: "card" }, title, h("ul", { class: "staff" }, rows));
}

function lately(jobs) {
  const all = h("a", { href: to("/jobs") }, "All jobs");
  const body = jobs.length ? jobTable(jobs, "The newest jobs") : h("p", { class: "empty" }, "There are no jobs yet. ", h("a", { href: to("/submit") }, "Submit the first"), ".");
  return h("section", { class: "card" }, h("div", { class: "head" }, h("h2", {}, "The newest jobs"), all), body);
}
