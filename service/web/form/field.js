// One argument of the form: its name, its field, what it means, and what the service says against it.

import { fill, h } from "../dom.js";
import { readFrom, shownAs } from "./values.js";

export class Field {
  // `onChange(value)` is told what it now says, undefined where nothing.
  constructor(field, value, lists, onChange) {
    this.field = field;
    this.isTouched = false;
    this.says = onChange;
    this.input = this.made(value, lists);
    this.wrong = h("p", { class: "wrong small", id: `${field.id}-wrong` });
    this.element = this.drawn();
  }

  refuse(details) {
    fill(this.wrong, details.join(" "));
    if (details.length) this.input.setAttribute("aria-invalid", "true");
    else this.input.removeAttribute("aria-invalid");
  }

  changed(value) {
    this.isTouched = true;
    this.refuse([]);
    this.says(value);
  }

  made(value, lists) {
    const { field } = this;
    const common = { id: field.id, disabled: field.fate.kind === "refused", "aria-describedby": `${field.id}-help ${field.id}-wrong` };
    if (field.kind === "switch") {
      const told = (event) => this.changed(event.target.checked === field.standard ? undefined : event.target.checked);
      return h("input", { ...common, type: "checkbox", checked: value ?? field.standard, onchange: told });
    }
    const read = (event) => this.changed(readFrom(field, event.target.value));
    if (field.kind === "choice") {
      const standard = field.standard === null ? "not set" : `${field.standard} (default)`;
      const others = field.choices.filter((choice) => choice !== field.standard);
      const options = [h("option", { value: "" }, standard), others.map((choice) => h("option", { value: choice, selected: choice === value }, String(choice)))];
      return h("select", { ...common, onchange: read }, options);
    }
    const shown = { ...common, value: shownAs(field, value), oninput: read, placeholder: placeholder(field) };
    if (field.kind === "json") return h("textarea", { ...shown, rows: 2, spellcheck: "false" });
    const list = lists[field.path.join(".")];
    const input = h("input", {
      ...shown,
      type: field.isSecret ? "password" : "text",
      inputmode: field.kind === "integer" ? "numeric" : field.kind === "number" ? "decimal" : null,
      list: list ? `${field.id}-list` : null,
      required: field.isNeeded,
      autocomplete: "off",
      spellcheck: "false",
    });
    this.list = list ? h("datalist", { id: `${field.id}-list` }, list.map((one) => h("option", { value: one }))) : null;
    return input;
  }

  drawn() {
    const { field } = this;
    const label = h("label", { for: field.id }, field.name, field.isNeeded ? h("span", { class: "wrong", "aria-hidden": "true" }, " *") : null);
    const help = h("p", { class: "help", id: `${field.id}-help` }, [field.help, bounds(field), fate(field)].filter(Boolean).join(" "));
    const body = field.kind === "switch" ? [h("div", { class: "row" }, this.input, label), help] : [label, this.input, this.list, help];
    return h("div", { class: "field", "data-pointer": field.pointer }, body, this.wrong);
  }
}

function placeholder(field) {
  if (field.kind === "pairs") return "team: nlp, run: 3";
  if (field.standard !== null && field.kind !== "json") return shownAs(field, field.standard).slice(0, 60) || "none";
  if (field.kind === "json") return field.standard === null ? "JSON" : JSON.stringify(field.standard);
  return field.format === "date-time" ? "2027-01-31T18:00:00Z" : "";
}

const bounds = ({ bounds: said }) => (said ? `${said[0].toUpperCase()}${said.slice(1)}.` : "");

function fate({ fate: { kind, why } }) {
  if (kind === "conditional") return `Works if ${why}.`;
  return kind === "works" ? "" : `${kind === "refused" ? "Not here: " : ""}${why}`;
}
