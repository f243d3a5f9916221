// Several jobs beside each other: their curves, how far they are apart, and what was asked for differently (?jobs=a,b,c).

import { isOver } from "../actions.js";
import { get } from "../api.js";
import { lineChart } from "../charts/lines.js";
import { scatterChart } from "../charts/scatter.js";
import { differences } from "../compare/spec.js";
import { picker } from "../compare/picker.js";
import { fill, h } from "../dom.js";
import { estimate, number } from "../format.js";
import { gainFigure, measureFigure, seriesFigure } from "../job/figures.js";
import { poll } from "../poll.js";
import { go, to } from "../route.js";

const POINTS = 1000;
const SECONDS = 5;
const MEASURES = ["cross_entropy", "entropy", "kl_from_base"];

export async function show(page, { query }, signal) {
  document.title = "Compare – Finebits";
  const ids = [
    ...new Set(
      (query.get("jobs") ?? "")
        .split(",")
        .map((id) => id.trim())
        .filter(Boolean),
    ),
  ];
  const choose = await picker(ids, (chosen) => go("/compare", { jobs: chosen.join(",") }), signal);
  const found = await Promise.all(ids.map((id) => one(id, signal)));
  if (signal.aborted) return;
  const [jobs, missing] = [named(found.filter((it) => it.job)), found.filter((it) => !it.job)];
  const wrong = missing.map((it) => h("p", { class: "refused" }, `${it.id}: ${it.problem.message}`));
  fill(page, h("h1", {}, "Compare"), choose, wrong, jobs.length ? null : h("p", { class: "empty" }, "Choose two jobs or more."));
  if (!jobs.length) return;
  const places = {
    legend: h("ul", { class: "plain compared" }),
    curves: h("div", { class: "charts" }),
    gain: h("div", { class: "charts" }),
    measures: h("div", { class: "charts" }),
    versus: h("section", { class: "card" }),
  };
  page.append(
    places.legend,
    h("h2", {}, "Training"),
    places.curves,
    h("h2", {}, "Measured, in bits"),
    places.gain,
    places.measures,
    places.versus,
    differences(jobs),
  );
  const board = new Board(places, signal);
  await board.show(jobs);
  await poll(SECONDS, () => board.look(), signal);
}

// What is drawn of them, made once and then changed, as long as any of them goes on.
class Board {
  constructor(places, signal) {
    Object.assign(this, { places, signal });
    this.charts = new Map();
    this.measured = "";
  }

  async look() {
    if (this.jobs.every(({ job }) => isOver(job))) return;
    const found = await Promise.all(this.jobs.map((it) => (isOver(it.job) ? it.found : one(it.id, this.signal))));
    const gone = found.find((it) => it.problem);
    if (gone) throw gone.problem;
    await this.show(named(found));
  }

  async show(jobs) {
    this.jobs = jobs;
    fill(this.places.legend, legend(jobs));
    const measured = JSON.stringify(jobs.map(({ all }) => all.map((entry) => [entry.checkpoint, entry.split])));
    const isNew = measured !== this.measured;
    this.measured = measured;
    await Promise.all([curves(jobs, this), isNew ? versus(jobs, this.places.versus, this.signal) : null]);
    if (isNew) measures(jobs, this);
  }

  draw(key, place, figure, make) {
    const known = this.charts.get(key);
    if (this.signal.aborted) return;
    if (known) return known.update(figure);
    place.querySelector(".empty:only-child")?.remove();
    this.charts.set(key, make(figure, { signal: this.signal }));
    place.append(this.charts.get(key).element);
  }
}

async function one(id, signal) {
  const of = (path) => get(`/jobs/${encodeURIComponent(id)}${path}`, { signal });
  try {
    const [job, metrics, checkpoints, names] = await Promise.all([
      of(""),
      of("/metrics"),
      of("/checkpoints"),
      of("/metrics/series"),
    ]);
    return { id, job, entries: metrics.data, front: checkpoints.front, names: names.data };
  } catch (problem) {
    return { id, problem };
  }
}

// By its name, and its id too where two have the same; a job's step is the last that has a series or a measure.
function named(found) {
  const names = found.map(({ job }) => job.name ?? job.id);
  return found.map((one, index) => {
    const isTaken = names.filter((name) => name === names[index]).length > 1;
    const name = isTaken && one.job.name ? `${one.job.name} (${one.id.slice(-6)})` : names[index];
    const known = one.job.steps.filter(
      (step) => one.names.some((it) => it.pipeline_step === step.name) || one.entries.some((entry) => entry.step === step.name),
    );
    const step = known[known.length - 1] ?? one.job.steps[one.job.steps.length - 1];
    const all = one.entries.filter((entry) => entry.step === step.name); // drift is taken on the anchor where there is one
    return { ...one, found: one, name, colour: index, step, all, entries: all.filter((entry) => entry.split !== "anchor") };
  });
}

function legend(jobs) {
  const item = (one) =>
    h(
      "li",
      {},
      h("span", { class: "swatch", style: { color: `var(--series-${(one.colour % 8) + 1})` }, "aria-hidden": "true" }),
      h("a", { href: to(`/jobs/${one.id}`) }, one.name),
      " ",
      h("span", { class: "state", "data-state": one.job.state }, one.job.state),
      h("span", { class: "quiet small" }, ` step ${one.step.name}`),
    );
  return jobs.map(item);
}

async function curves(jobs, board) {
  const has = (one, name) => one.names.some((it) => it.pipeline_step === one.step.name && it.names.includes(name));
  const names = ["loss", "reward"].filter((name) => jobs.some((one) => has(one, name)));
  for (const name of names) {
    const those = jobs.filter((one) => has(one, name));
    const read = async (points) =>
      seriesFigure(
        name,
        await Promise.all(
          those.map(async (one) => ({
            name: one.name,
            colour: one.colour,
            stage: one.step.stage,
            series: await get(`/jobs/${one.id}/metrics/series`, { query: { name, step: one.step.name, points }, signal: board.signal }),
          })),
        ),
        {},
      );
    const figure = await read(POINTS);
    board.draw(name, board.places.curves, { ...figure, whole: () => read(null) }, lineChart);
  }
  if (!names.length) fill(board.places.curves, h("p", { class: "empty" }, "None of them has told of an update yet."));
}

function measures(jobs, board) {
  const known = jobs.filter((one) => one.entries.length);
  const points = gainFigure(
    known.map(({ name, all, front, colour }) => ({ name, entries: all, front, colour })),
    {},
  );
  if (points.points.length) board.draw("gain", board.places.gain, points, scatterChart);
  for (const measure of MEASURES.filter((name) => known.some((one) => one.entries.some((entry) => entry.measures[name])))) {
    const figure = measureFigure(
      measure,
      known.map(({ name, entries, colour }) => ({ name, entries, colour })),
      {},
    );
    board.draw(measure, board.places.measures, figure, lineChart);
  }
}

// Each job's last checkpoint beside the first one's, paired by document where the service can pair them.
async function versus(jobs, place, signal) {
  fill(place, h("h2", {}, "How far apart they are"));
  if (jobs.length < 2) return place.append(h("p", { class: "quiet" }, "With another job, its differences stand here."));
  const [first, ...others] = jobs;
  const answers = await Promise.all(
    others.map((one) =>
      get(`/jobs/${one.id}/versus/${first.id}`, { query: { step: one.step.name, other_step: first.step.name }, signal }).catch(
        (problem) => ({ problem }),
      ),
    ),
  );
  for (const [index, answer] of answers.entries()) place.append(pair(others[index], first, answer));
}

function pair(one, first, answer) {
  const title = h("h3", {}, `${one.name} less ${first.name}`);
  if (answer.problem) return h("div", {}, title, h("p", { class: "quiet" }, answer.problem.message));
  const of = (side) => `${side.step}, checkpoint ${side.checkpoint} on ${side.split}`;
  const what = h("p", { class: "quiet small" }, `${of(answer.one)}, against ${of(answer.other)}.`);
  if (!answer.paired)
    return h(
      "div",
      {},
      title,
      what,
      h("p", { class: "notice" }, `${answer.why_not} Below are differences that are not paired.`),
      table(unpaired(one, first, answer), title.textContent),
    );
  return h("div", {}, title, what, table(answer.data, title.textContent));
}

// Of two means that have nothing in common the variances add up; no interval is told, since the documents may be the same ones.
function unpaired(one, first, answer) {
  const at = (job, side) =>
    job.entries.find((entry) => entry.checkpoint === side.checkpoint && entry.split === side.split)?.measures ?? {};
  const [mine, theirs] = [at(one, answer.one), at(first, answer.other)];
  return Object.keys(mine)
    .filter((name) => theirs[name]?.value != null && mine[name].value != null)
    .map((name) => ({
      measure: name,
      unit: mine[name].unit,
      value: mine[name].value - theirs[name].value,
      standard_error: null,
      interval: null,
    }));
}

function table(rows, label) {
  const row = (one) => {
    const isApart = one.interval && (one.interval[0] > 0 || one.interval[1] < 0);
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, h("a", { href: to(`/measures/${one.measure.split(":")[0]}`) }, one.measure)),
      h("td", { class: "number nowrap" }, estimate(one.value, one.standard_error)),
      h("td", { class: "number nowrap" }, one.interval ? `${number(one.interval[0])} to ${number(one.interval[1])}` : "–"),
      h("td", {}, one.unit === "1" ? "" : one.unit),
      h("td", {}, one.interval ? (isApart ? "apart" : "not told apart") : ""),
    );
  };
  const head = ["measure", "difference", "95 % interval", "unit", ""].map((name, index) =>
    h("th", { scope: "col", class: index === 1 || index === 2 ? "number" : null }, name),
  );
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows.map(row))),
  );
}
