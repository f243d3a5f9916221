// The curves of a step while they grow, with the alerts where they fired, and what each checkpoint gave for what it cost.

import { get } from "../api.js";
import { lineChart } from "../charts/lines.js";
import { scatterChart } from "../charts/scatter.js";
import { fill, h } from "../dom.js";
import { note, to } from "../route.js";
import { alertMarks, alertSentence, gainFigure, measureFigure, seriesFigure } from "./figures.js";
import { isOver } from "./following.js";
import { measuredTables } from "./measured.js";
import { Series } from "./series.js";

const SERIES = ["loss", "reward"];
const MEASURED = ["measured", "alert", "checkpoint_saved"];
const REWRITTEN = ["checkpoint_saved", "resumed", "batch_halved"]; // updates behind a checkpoint may have been made anew
const MEASURES = ["cross_entropy", "entropy", "kl_from_base"];

export async function side(place, job, { query, signal }) {
  const step = job.steps.find((one) => one.name === query.get("step")) ?? present(job);
  const curves = new Curves(place, job, step, query, signal);
  await curves.begin();
  return { job: (now) => curves.look(now), event: (event) => curves.hear(event) };
}

// The step that runs, or the last one.
const present = (job) => job.steps.find((step) => !step.finished_at) ?? job.steps[job.steps.length - 1];

class Curves {
  constructor(place, job, step, query, signal) {
    Object.assign(this, { job, step, signal });
    this.wasOver = this.isLast = isOver(job);
    this.waiting = {};
    this.entries = [];
    this.front = [];
    this.series = new Series(job, step, signal, (names) => this.grown(names));
    this.charts = new Map();
    this.chosen = { series: query.getAll("series"), measures: query.getAll("measure") };
    this.choice = {
      series: h("div", { class: "row chips", role: "group", "aria-label": "Series that are drawn" }),
      measures: h("div", { class: "row chips", role: "group", "aria-label": "Measures that are drawn" }),
    };
    this.places = {
      series: h("div", { class: "charts" }),
      alerts: h("div", {}),
      measures: h("div", { class: "charts" }),
      numbers: h("div", {}),
    };
    fill(
      place,
      steps(job, step),
      step.do === "train" ? h("h2", {}, "Training") : null,
      this.choice.series,
      this.places.series,
      this.places.alerts,
      h("h2", {}, "Measured, in bits"),
      this.choice.measures,
      this.places.measures,
      this.places.numbers,
    );
  }

  async begin() {
    await Promise.all([this.readSeries(), this.readMeasures()]);
    if (!isOver(this.job)) this.series.listen().catch(() => null); // then it is asked for, as while the stream is broken
  }

  // -- what is asked ----------------------------------------------------------------------------------------------------

  async readSeries() {
    if (!this.series.names.length) await this.series.readNames();
    await Promise.all(this.shownSeries().map((name) => this.readOne(name)));
  }

  async readOne(name) {
    await this.series.read(name, this.charts.get(`series ${name}`)?.looked);
    this.showSeries(name);
  }

  // A part of a long series is asked for by itself: more of its points are then to be seen.
  closer(name, from, to) {
    this.charts.get(`series ${name}`).looked = from === null ? null : [Math.floor(from), Math.ceil(to)];
    return this.readOne(name).catch(() => null);
  }

  async readMeasures() {
    const asked = { query: { step: this.step.name }, signal: this.signal };
    const [metrics, checkpoints] = await Promise.all([
      get(`/jobs/${this.job.id}/metrics`, asked),
      get(`/jobs/${this.job.id}/checkpoints`, { signal: this.signal }),
    ]);
    this.entries = metrics.data;
    this.front = checkpoints.front;
    this.showMeasures();
  }

  // -- what is shown ----------------------------------------------------------------------------------------------------

  shownSeries() {
    const shown = this.shown("series", this.series.names, SERIES);
    this.choose("series", this.series.names, shown);
    return shown;
  }

  showSeries(name) {
    const figureOf = (series, more) =>
      seriesFigure(name, [{ name, series, stage: this.step.stage }], { step: this.step.name, ...more });
    const whole = async () => figureOf(await this.series.whole(name));
    const figure = figureOf(this.series.columns(name), { marks: alertMarks(this.entries), whole });
    this.draw(`series ${name}`, this.places.series, figure, (from, to) => this.closer(name, from, to));
  }

  showMeasures() {
    const names = [...new Set(this.entries.flatMap((entry) => Object.keys(entry.measures)))].sort();
    const shown = this.shown("measures", names, MEASURES);
    this.choose("measures", names, shown);
    const many = [{ name: "", entries: this.entries, front: this.front }];
    const isTraining = this.step.do === "train";
    const gain = gainFigure(many, { step: this.step.name });
    if (isTraining || gain.points.length) this.draw("gain", this.places.measures, gain);
    const counted = isTraining ? "update" : "place in the list";
    for (const name of shown) {
      this.draw(`measures ${name}`, this.places.measures, measureFigure(name, many, { step: this.step.name, counted }));
    }
    this.showAlerts();
    const isOpen = this.places.numbers.querySelector("details")?.open ?? !isTraining;
    fill(this.places.numbers, this.entries.length ? measuredTables(this.entries, isOpen) : null);
  }

  showAlerts() {
    const fired = this.entries.flatMap((entry) => entry.alerts.map((alert) => [alert, entry]));
    const told = fired.map(([alert, entry]) => {
      const suggests = alert.suggests ? ` It suggests ${alert.suggests}.` : "";
      return h("li", {}, h("strong", { class: "alert" }, alertSentence(alert, entry)), suggests);
    });
    fill(this.places.alerts, told.length ? [h("h2", {}, "Alerts"), h("ul", { class: "alerts" }, told)] : null);
    if (fired.length) for (const name of this.drawn()) this.showSeries(name); // their marks
  }

  draw(key, where, figure, onRange) {
    const known = this.charts.get(key);
    if (this.signal.aborted) return;
    if (known) return known.chart.update(figure);
    const chart = figure.points
      ? scatterChart(figure, {
          signal: this.signal,
          onChoose: (point) =>
            (location.hash = to(`/jobs/${this.job.id}`, { tab: "tokens", step: this.step.name, checkpoint: point.checkpoint })),
        })
      : lineChart(figure, { signal: this.signal, onRange });
    where.append(chart.element);
    this.charts.set(key, { chart, looked: null });
  }

  shown(kind, names, usual) {
    const wanted = this.chosen[kind].length ? this.chosen[kind] : usual;
    const found = names.filter((name) => wanted.includes(name));
    return found.length ? found : names.slice(0, 1);
  }

  choose(kind, names, shown) {
    const said = JSON.stringify([names, shown]);
    if (this.choice[kind].dataset.said === said) return; // what is in focus stays
    this.choice[kind].dataset.said = said;
    const one = (name) =>
      h(
        "button",
        {
          type: "button",
          class: "small chip",
          "aria-pressed": String(shown.includes(name)),
          onclick: () => this.toggle(kind, name, shown),
        },
        name,
      );
    fill(this.choice[kind], names.length > 1 ? names.map(one) : null);
  }

  toggle(kind, name, shown) {
    this.chosen[kind] = shown.includes(name) ? shown.filter((one) => one !== name) : [...shown, name];
    if (!this.chosen[kind].length) this.chosen[kind] = [name];
    note({ step: this.step.name, series: this.chosen.series, measure: this.chosen.measures });
    for (const [key, { chart }] of this.charts) {
      if (key.startsWith(`${kind} `) && !this.chosen[kind].includes(key.slice(kind.length + 1)))
        (chart.element.remove(), this.charts.delete(key));
    }
    const [group, names] = [this.choice[kind], [...this.choice[kind].querySelectorAll("button")].map((one) => one.textContent)];
    if (kind === "measures") this.showMeasures();
    else (this.choose(kind, names, this.chosen[kind]), this.readSeries().catch(() => null));
    [...group.querySelectorAll("button")].find((one) => one.textContent === name)?.focus();
  }

  // -- what happens -----------------------------------------------------------------------------------------------------

  look(job) {
    const isNew = job.changed_at !== this.job.changed_at || job.progress?.global_step !== this.job.progress?.global_step;
    this.job = job;
    if ((isNew && !this.series.isStreamed) || (isOver(job) && !this.isLast)) this.grow();
    this.isLast = isOver(job);
  }

  // What was streamed: drawn as it is, or asked for where it is new, or so much that it is to be thinned.
  grown(names) {
    for (const name of this.shownSeries().filter((one) => names.includes(one))) {
      if (!this.charts.has(`series ${name}`) || this.series.isLong(name)) this.readOne(name).catch(() => null);
      else this.showSeries(name);
    }
  }

  drawn() {
    return this.series.names.filter((name) => this.charts.has(`series ${name}`));
  }

  // One question at a time: a slow service is not asked again before it has answered.
  async grow() {
    if (this.isGrowing) return (this.isDue = true);
    this.isGrowing = true;
    try {
      await this.readSeries();
    } catch {
      // the stream says that the service is away; it is asked again
    }
    this.isGrowing = false;
    if (this.isDue && !this.signal.aborted) ((this.isDue = false), this.grow());
  }

  hear(event) {
    if (this.wasOver || (event.data.step && event.data.step !== this.step.name)) return;
    if (REWRITTEN.includes(event.kind)) this.soon("series", () => this.grow());
    if (MEASURED.includes(event.kind)) this.soon("measures", () => this.readMeasures().catch(() => null));
  }

  // Events come in swarms, those from before the page was opened first of all.
  soon(what, act) {
    clearTimeout(this.waiting[what]);
    this.waiting[what] = setTimeout(() => this.signal.aborted || act(), 300);
  }
}

function steps(job, present) {
  if (job.steps.length < 2) return null;
  const link = (step) =>
    h(
      "a",
      {
        class: "button small",
        href: to(`/jobs/${job.id}`, { tab: "curves", step: step.name }),
        "aria-current": step === present ? "true" : null,
      },
      step.name,
    );
  return h("nav", { class: "row", "aria-label": "Steps" }, job.steps.map(link));
}
