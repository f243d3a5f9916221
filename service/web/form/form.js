// The whole form: a card for each group of arguments, those that most jobs set in sight and the others behind a word.

import { fill, h } from "../dom.js";
import { Field } from "./field.js";
import { at, put } from "./values.js";

// What stands in sight; the rest of a group opens.
const FIRST = {
  null: ["name", "do"],
  model: ["model_name_or_path", "adapter_name_or_path", "quantization_bit"],
  data: ["dataset", "template", "cutoff_len", "val_size"],
  finetuning: ["stage", "finetuning_type", "lora_rank", "lora_target"],
  training: ["learning_rate", "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps", "lr_scheduler_type", "save_steps"],
  resources: ["gpus", "priority"],
};

export class Form {
  constructor(groups, document, lists, onChange) {
    this.document = document;
    this.onChange = onChange;
    this.fields = new Map();
    this.cards = groups.map((group) => this.card(group, lists));
    this.steps = h("p", { class: "notice" });
    this.element = h("div", { class: "stack" }, search(this), this.steps, this.cards.map(({ element }) => element));
    this.showSteps();
  }

  // Puts each refusal at its field, or the nearest one around it; gives back those that have none. Of a form that nobody has sent,
  // only fields that were touched are told.
  refuse(errors, isSent) {
    const found = new Map();
    const others = [];
    for (const error of errors) {
      const field = this.fieldAt(error.pointer);
      if (!field) others.push(error);
      else if (isSent || field.isTouched) found.set(field, [...(found.get(field) ?? []), error.detail]);
    }
    for (const field of this.fields.values()) field.refuse(found.get(field) ?? []);
    if (isSent) for (const field of found.keys()) openTo(field.element);
    return others;
  }

  fieldAt(pointer) {
    const parts = pointer.split("/").slice(1);
    for (let length = parts.length; length > 0; length--) {
      const field = this.fields.get(`/${parts.slice(0, length).join("/")}`);
      if (field) return field;
    }
    return null;
  }

  focusOn(pointer) {
    const field = this.fieldAt(pointer);
    if (!field) return;
    openTo(field.element);
    field.input.focus();
  }

  // Shows only the arguments in whose name or meaning the words stand; all of them where there are none.
  find(words) {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    for (const { element, more, fields } of this.cards) {
      let n = 0;
      for (const { field, element: one } of fields) {
        const isThere = wanted.every((word) => `${field.path.join(".")} ${field.help}`.toLowerCase().includes(word));
        one.hidden = !isThere;
        n += isThere;
      }
      element.hidden = n === 0;
      if (more) more.open = wanted.length > 0;
    }
  }

  showSteps() {
    const steps = this.document.steps ?? [];
    this.steps.hidden = !steps.length;
    fill(this.steps, `This job has the steps ${steps.map((step) => step.name).join(" → ")}. What is set here holds for all of them; what is a step's own is written in the text.`);
  }

  card({ group, title, fields }, lists) {
    const made = fields.map((field) => this.made(field, lists));
    const first = FIRST[group] ?? [];
    const inSight = first.map((name) => made.find(({ field }) => field.name === name)).filter(Boolean);
    const others = made.filter((one) => !inSight.includes(one));
    const isSet = others.some(({ field }) => at(this.document, field.path) !== undefined);
    const more = others.length ? h("details", { open: isSet }, h("summary", {}, `${others.length} more`), h("div", { class: "fields" }, others.map(({ element }) => element))) : null;
    const element = h("fieldset", { class: "card group" }, h("legend", {}, title), inSight.length ? h("div", { class: "fields" }, inSight.map((one) => one.element)) : null, more);
    return { element, more, fields: made };
  }

  made(field, lists) {
    const told = (value) => {
      put(this.document, field.path, value);
      this.onChange();
    };
    const one = new Field(field, at(this.document, field.path), lists, told);
    this.fields.set(field.pointer, one);
    return one;
  }
}

function search(form) {
  const told = (event) => form.find(event.target.value);
  return h("input", { id: "find", type: "search", placeholder: "Find an argument by its name or meaning", "aria-label": "Find an argument", "data-filter": "", autocomplete: "off", oninput: told });
}

function openTo(element) {
  for (let around = element.closest("details"); around; around = around.parentElement.closest("details")) around.open = true;
  element.hidden = false;
  element.closest("fieldset").hidden = false;
}
