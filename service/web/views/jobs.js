// The list of jobs: filters that stand in the address, and page after page.

import { get } from "../api.js";
import { fill, h } from "../dom.js";
import { jobRow, jobTable } from "../joblist.js";
import { poll } from "../poll.js";
import { go, note, to } from "../route.js";

const STATES = ["queued", "running", "paused", "succeeded", "failed", "cancelled"];
const PAGE = 50;
const SECONDS = 4;
const PATIENCE = 250;

export async function show(page, { query }, signal) {
  document.title = "Jobs – Finebits";
  const asked = { state: query.get("state") ?? "", name: query.get("name") ?? "", label: query.getAll("label") };
  const list = new List(asked, signal);
  const changed = () => (note(asked), list.begin().catch((problem) => list.refuse(problem)));
  fill(page, h("div", { class: "head" }, h("h1", {}, "Jobs"), h("div", { class: "row" }, list.compare, h("a", { class: "button primary", href: to("/submit") }, "Submit a job"))), filters(asked, changed), list.element);
  await poll(SECONDS, () => list.look(), signal);
}

function filters(asked, changed) {
  let timer;
  const soon = () => (clearTimeout(timer), (timer = setTimeout(changed, PATIENCE)));
  const state = h("select", { id: "state", onchange: (event) => ((asked.state = event.target.value), changed()) }, h("option", { value: "" }, "any"), STATES.map((one) => h("option", { value: one, selected: one === asked.state }, one)));
  const name = h("input", { id: "name", type: "search", value: asked.name, placeholder: "a part of it", "data-filter": "", oninput: (event) => ((asked.name = event.target.value), soon()) });
  const read = (text) => text.split(",").map((one) => one.trim()).filter((one) => /[:=]/.test(one));
  const label = h("input", { id: "label", type: "search", value: asked.label.join(", "), placeholder: "team:nlp, run:3", oninput: (event) => ((asked.label = read(event.target.value)), soon()) });
  const field = (id, title, input) => h("div", { class: "field" }, h("label", { for: id }, title), input);
  return h("form", { class: "filters job-filters", role: "search", "aria-label": "Which jobs", onsubmit: (event) => event.preventDefault() }, field("state", "State", state), field("name", "Name", name), field("label", "Labels", label));
}

// What is shown: the first page, which is looked at again and again, and those behind it that were asked for.
class List {
  constructor(asked, signal) {
    this.asked = asked;
    this.signal = signal;
    this.rows = new Map();
    this.next = null;
    this.pages = 1;
    this.chosen = new Set();
    this.compare = h("button", { type: "button", hidden: true, onclick: () => go("/compare", { jobs: [...this.chosen].join(",") }) });
    this.element = h("section", { class: "card" });
  }

  async begin() {
    this.pages = 1;
    await this.look();
  }

  // The rows that are shown, as they are now; those in the middle of which somebody is stay where they are.
  async look() {
    const asked = JSON.stringify(this.asked);
    const jobs = [];
    let after = null;
    for (let page = 0; page < this.pages && (page === 0 || after); page++) {
      const found = await get("/jobs", { signal: this.signal, query: { limit: PAGE, after, ...this.asked } });
      jobs.push(...found.data);
      after = found.next_after;
    }
    if (asked !== JSON.stringify(this.asked)) return;
    this.next = after;
    this.draw(jobs);
  }

  draw(jobs) {
    const table = this.element.querySelector("tbody");
    const active = document.activeElement;
    const where = active?.closest?.("tr[data-job]")?.dataset.job;
    if (!jobs.length) fill(this.element, h("p", { class: "empty" }, this.isFiltered() ? "No job is like that." : "There are no jobs yet."));
    else if (!table) fill(this.element, jobTable(jobs, "Jobs", this.chosen, () => this.choose()), this.more());
    else {
      const kept = where ? table.querySelector(`tr[data-job="${where}"]`) : null;
      fill(table, jobs.map((job) => (job.id === where ? kept : jobRow(job, this.chosen, () => this.choose()))));
      if (where) active.focus({ preventScroll: true });
      this.element.querySelector(".more")?.replaceWith(this.more());
    }
  }

  more() {
    const ask = async (event) => {
      event.target.disabled = true;
      this.pages += 1;
      await this.look().catch((problem) => this.refuse(problem));
    };
    return h("p", { class: "more" }, this.next ? h("button", { type: "button", onclick: ask }, `${PAGE} more`) : h("span", { class: "small quiet" }, "That is all."));
  }

  choose() {
    this.compare.hidden = this.chosen.size < 2;
    this.compare.textContent = `Compare ${this.chosen.size}`;
  }

  refuse(problem) {
    if (!this.signal.aborted) fill(this.element, h("p", { class: "refused", role: "alert" }, problem.message));
  }

  isFiltered() {
    return Boolean(this.asked.state || this.asked.name || this.asked.label.length);
  }
}
