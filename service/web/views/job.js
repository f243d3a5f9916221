// A job: how it goes, and one of its sides, which the address names (?tab=).

import { actionsOf } from "../actions.js";
import { get } from "../api.js";
import { fill, h } from "../dom.js";
import { ago, duration, moment, number, percent, secondsBetween } from "../format.js";
import { follow, isOver } from "../job/following.js";
import { again, go, to } from "../route.js";

const TABS = {
  curves: "Curves",
  checkpoints: "Checkpoints",
  data: "Data",
  tokens: "Tokens",
  events: "Events",
  log: "Log",
  files: "Files",
  spec: "Spec",
};

// A side is a module job/NAME.js with `async function side(place, job, {query, signal})`, which fills `place` and answers with
// {job(job), event(event)}, both optional: what it wants to be told.
export async function show(page, { id, query }, signal) {
  const asked = query.get("tab") in TABS ? query.get("tab") : null;
  const [job, usual] = await Promise.all([
    get(`/jobs/${encodeURIComponent(id)}`, { signal }),
    import(`../job/${asked ?? "curves"}.js`),
  ]);
  const tab = asked ?? (job.steps.every((step) => step.do === "inspect") ? "data" : "curves");
  const { side } = asked || tab === "curves" ? usual : await import(`../job/${tab}.js`);
  document.title = `${job.name ?? job.id} – Finebits`;
  const head = h("section", { class: "job-head", "aria-label": "How it goes" });
  const place = h("section", { class: "side", "aria-label": TABS[tab] });
  const told = { told: {}, now: job };
  const onJob = (now) => {
    if (now === null) return go("/jobs");
    if (isOver(told.now) && !isOver(now)) return again(); // it was retried, and is to be followed anew
    told.now = now;
    showHead(head, now, onJob);
    told.told.job?.(now);
  };
  showHead(head, job, onJob);
  fill(page, head, tabs(id, tab), place);
  const early = [];
  told.told = { event: (event) => early.push(event) };
  follow(job, { onJob, onEvent: (event) => told.told.event?.(event), signal }).catch((problem) => console.error(problem));
  const wanted = (await side(place, job, { query, signal })) ?? {};
  if (signal.aborted) return;
  told.told = wanted;
  for (const event of early) wanted.event?.(event);
}

function tabs(id, present) {
  const link = ([name, label]) =>
    h("a", { href: to(`/jobs/${id}`, { tab: name }), "aria-current": name === present ? "page" : null }, label);
  return h("nav", { class: "tabs", "aria-label": "Sides of the job" }, Object.entries(TABS).map(link));
}

function showHead(head, job, onJob) {
  if (head.contains(document.activeElement) && head.dataset.state === job.state) return showProgress(head, job);
  head.dataset.state = job.state;
  const compare = h("a", { class: "button small", href: to("/compare", { jobs: job.id }) }, "Compare");
  fill(
    head,
    h(
      "div",
      { class: "head" },
      h(
        "div",
        { class: "row" },
        h("h1", {}, job.name ?? job.id),
        h("span", { class: "state", "data-state": job.state }, wish(job)),
      ),
      h("div", { class: "row" }, compare, actionsOf(job, onJob)),
    ),
    h("div", { class: "now" }),
    job.sentence
      ? h(
          "p",
          { class: { failed: "refused", succeeded: "quiet" }[job.state] ?? "notice" },
          job.sentence,
          job.reason ? h("code", { class: "reason" }, ` ${job.reason}`) : null,
        )
      : null,
    job.notices.map((notice) => h("p", { class: "notice" }, h("code", {}, notice.pointer), " ", notice.detail)),
  );
  showProgress(head, job);
}

const wish = (job) =>
  job.cancel_requested && !isOver(job) ? "stopping" : job.pause_requested && job.state === "running" ? "pausing" : job.state;

function showProgress(head, job) {
  fill(
    head.querySelector(".now"),
    isOver(job) || !job.progress ? null : progress(job.progress),
    h(
      "p",
      { class: "quiet facts" },
      facts(job).map((fact) => h("span", {}, fact)),
    ),
  );
}

function progress({ phase, global_step: at, max_steps: of, loss, tokens_per_second: speed, eta_seconds: left, step }) {
  const share = of ? Math.min(1, (at ?? 0) / of) : 0;
  const said = [
    [step, phase].filter(Boolean).join(": "),
    of ? `${(at ?? 0).toLocaleString("en")} of ${of.toLocaleString("en")} (${percent(share)})` : null,
    loss == null ? null : `loss ${number(loss)}`,
    speed ? `${number(speed, 3)} tokens/s` : null,
    left == null ? null : `${duration(left)} left`,
  ].filter(Boolean);
  const bar = h(
    "div",
    {
      class: "bar",
      role: "progressbar",
      "aria-label": "Progress of the step",
      "aria-valuemin": 0,
      "aria-valuemax": 100,
      "aria-valuenow": Math.round(100 * share),
    },
    h("span", { style: { "--share": `${100 * share}%` } }),
  );
  return [
    bar,
    h(
      "p",
      { class: "facts" },
      said.map((one) => h("span", {}, one)),
    ),
  ];
}

function facts(job) {
  const steps = job.steps.map((step) => `${step.finished_at ? "✓ " : ""}${step.name}`).join(" → ");
  return [
    h("code", {}, job.id),
    steps,
    job.position ? `number ${job.position} in the line of ${job.queue}` : null,
    job.estimated_start && !job.started_at ? `may begin ${moment(job.estimated_start)}` : null,
    job.place_unknown,
    `created ${ago(job.created_at)}`,
    job.started_at
      ? `${job.finished_at ? "took" : "runs for"} ${duration(secondsBetween(job.started_at, job.finished_at))}`
      : null,
    job.attempt > 1 ? `attempt ${job.attempt}` : null,
    job.owner ? `by ${job.owner}` : null,
    Object.entries(job.labels).map(([key, value]) => h("span", { class: "tag" }, `${key}: ${value}`)),
  ].filter((fact) => fact && (!Array.isArray(fact) || fact.length));
}
