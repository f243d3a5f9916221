// A job from a form that is made of the spec's own schema, or from text, with what it would do beside it.

import { get, post } from "../api.js";
import { fill, h } from "../dom.js";
import { Form } from "../form/form.js";
import { inShort, planOf, refusalsOf } from "../form/plan.js";
import { groupsOf } from "../form/schema.js";
import { go, note } from "../route.js";

const PATIENCE = 500;

export async function show(page, { query }, signal) {
  document.title = "Submit – Finebits";
  const [form, starts, models, datasets, earlier] = await Promise.all([
    get("web/job.json", { signal }),
    get("web/form/starts.json", { signal }),
    get("/models", { signal }).catch(() => ({ data: [] })),
    get("/datasets", { signal }).catch(() => ({ data: [] })),
    query.get("from") ? get(`/jobs/${encodeURIComponent(query.get("from"))}`, { signal }) : null,
  ]);
  if (signal.aborted) return;
  const lists = { "model.model_name_or_path": models.data, "data.dataset": datasets.data.map(({ name }) => name), "data.template": form.templates };
  const submitting = new Submitting(groupsOf(form), lists, signal);
  const begins = { ...Object.fromEntries(starts.map(({ title, document }) => [title, document])), ...form.examples };
  const chosen = earlier ? (earlier.name ?? earlier.id) : query.get("example");
  if (earlier) begins[chosen] = earlier.spec;
  const begin = (name) => {
    note(earlier && name === chosen ? { from: earlier.id } : { example: name });
    submitting.begin(begins[name] ?? {});
  };
  fill(page, h("div", { class: "head" }, h("h1", {}, "Submit a job"), startMenu(begins, chosen, begin)), submitting.element);
  submitting.begin(begins[chosen] ?? {});
}

function startMenu(begins, present, begin) {
  const options = Object.keys(begins).map((name) => h("option", { value: name, selected: name === present }, name));
  const chosen = ({ target }) => begin(target.value);
  return h("div", { class: "row" }, h("label", { for: "start" }, "Start from"), h("select", { id: "start", class: "short", onchange: chosen }, h("option", { value: "" }, "nothing"), options));
}

// One document, as a form or as text.
class Submitting {
  constructor(groups, lists, signal) {
    this.groups = groups;
    this.lists = lists;
    this.signal = signal;
    this.key = null;
    this.looking = new AbortController();
    this.editor = h("div", { class: "editor" });
    this.plan = h("div", { class: "stack", id: "plan", role: "status" });
    this.said = h("div", {});
    this.short = h("button", { type: "button", class: "link small in-short", onclick: () => this.plan.parentElement.scrollIntoView() });
    this.button = h("button", { class: "primary", type: "submit" }, "Submit");
    this.tabs = h("div", { class: "tabs", role: "group", "aria-label": "How to write it" });
    const left = h("form", { class: "stack", novalidate: true, "aria-label": "Job", onsubmit: (event) => (event.preventDefault(), this.send()) }, this.tabs, this.editor, h("div", { class: "send" }, this.said, this.short, this.button));
    const right = h("aside", { class: "card beside", "aria-label": "Dry run" }, h("h2", {}, "What it would do"), this.plan);
    this.element = h("div", { class: "two submit" }, left, right);
  }

  begin(document) {
    this.document = structuredClone(document);
    const isNested = Object.keys(document).every((key) => this.groups.some(({ group, fields }) => key === group || (group === null && fields.some(({ name }) => name === key))) || key === "steps");
    if (isNested) this.asForm();
    else this.asText();
    this.changed();
  }

  asForm() {
    this.text = null;
    this.form = new Form(this.groups, this.document, this.lists, () => this.changed());
    this.showTabs(false);
    fill(this.editor, this.form.element);
  }

  asText(text = JSON.stringify(this.document, null, 2)) {
    this.form = null;
    this.text = h("textarea", { id: "text", rows: 26, spellcheck: "false", value: text, "aria-label": "The job as JSON or YAML", oninput: () => this.changed() });
    const file = h("input", { type: "file", id: "file", accept: ".json,.yaml,.yml", onchange: (event) => this.load(event.target.files[0]) });
    this.showTabs(true);
    fill(this.editor, h("p", { class: "quiet small" }, "JSON or YAML, with groups, or flat as LLaMA-Factory's files are."), this.text, h("div", { class: "row" }, h("label", { for: "file" }, "From a file"), file));
  }

  showTabs(isText) {
    const tab = (label, isChosen, choose) => h("button", { type: "button", "aria-pressed": String(isChosen), "aria-current": isChosen ? "true" : null, onclick: choose }, label);
    fill(this.tabs, tab("Form", !isText, () => this.toForm()), tab("Text", isText, () => isText || this.asText()));
  }

  // What was written as text, where the form can have it.
  toForm() {
    if (!this.text) return;
    try {
      this.begin(JSON.parse(this.text.value || "{}"));
      if (this.text) this.tell([h("p", { class: "notice" }, "The form has groups; a flat document is sent as it is.")]);
    } catch {
      this.tell([h("p", { class: "notice" }, "The form reads JSON. YAML is sent as it is, from here.")]);
    }
  }

  async load(file) {
    this.text.value = await file.text();
    this.changed();
  }

  changed() {
    this.key = null;
    this.tell([]);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.look(), PATIENCE);
  }

  async look() {
    this.looking.abort();
    this.looking = new AbortController();
    const signal = AbortSignal.any([this.looking.signal, this.signal]);
    this.plan.setAttribute("aria-busy", "true");
    try {
      const plan = await post("/jobs", this.body(), { signal, query: { dry_run: true }, headers: this.headers() });
      this.form?.refuse([], false);
      fill(this.plan, planOf(plan));
      this.short.textContent = inShort(plan);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      this.form?.refuse(problem.errors, false);
      this.short.textContent = "It would be refused.";
      fill(this.plan, h("p", { class: "quiet" }, "It would be refused:"), refusalsOf(problem, (pointer) => this.form?.focusOn(pointer)));
    }
    this.plan.removeAttribute("aria-busy");
  }

  async send() {
    this.key ??= crypto.randomUUID?.() ?? String(Math.random());
    this.button.disabled = true;
    try {
      const job = await post("/jobs", this.body(), { signal: this.signal, headers: { ...this.headers(), "Idempotency-Key": this.key } });
      clearTimeout(this.timer);
      this.looking.abort();
      go(`/jobs/${job.id}`);
    } catch (problem) {
      if (problem.name !== "AbortError") this.refused(problem);
    }
    this.button.disabled = false;
  }

  refused(problem) {
    const others = this.form?.refuse(problem.errors, true) ?? problem.errors;
    const summary = problem.errors.length > others.length ? `${problem.errors.length - others.length} refused; see the fields.` : problem.message;
    this.tell([h("div", { class: "refused", role: "alert" }, h("p", {}, summary), others.length ? refusalsOf({ errors: others }, () => {}) : null)]);
    const first = problem.errors.find(({ pointer }) => this.form?.fieldAt(pointer));
    if (first) this.form.focusOn(first.pointer);
  }

  tell(said) {
    fill(this.said, said);
  }

  body() {
    return this.text ? this.text.value : this.document;
  }

  headers() {
    const isYaml = this.text && !/^\s*[[{]/.test(this.text.value);
    return { "Content-Type": isYaml ? "application/yaml" : "application/json" };
  }
}
