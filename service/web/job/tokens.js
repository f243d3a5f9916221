// What each token of a few texts costs in bits, before and after: by the base, and by a checkpoint.

import { get } from "../api.js";
import { fill, h } from "../dom.js";
import { count, number, signed } from "../format.js";
import { note, to } from "../route.js";
import { visible } from "./masked.js";

// The colours of a token end here: 12 bits is one in 4096. What changed is coloured up to 6 bits.
const MOST_BITS = 12;
const MOST_CHANGE = 6;

export async function side(place, job, { query, signal }) {
  const { data } = await get(`/jobs/${job.id}/surprisal`, { signal });
  if (!data.length) {
    fill(
      place,
      h(
        "p",
        { class: "empty" },
        "No text has been measured yet, or it was measured before texts were kept. ",
        h("a", { href: to(`/jobs/${job.id}`, { tab: "data" }) }, "The data"),
        " may have more to show.",
      ),
    );
    return {
      event: (event) => event.kind === "measured" && !signal.aborted && side(place, job, { query, signal }).catch(() => null),
    };
  }
  const tokens = new Tokens(place, data, query);
  tokens.show();
  return {
    async event(event) {
      if (event.kind !== "measured") return;
      const found = await get(`/jobs/${job.id}/surprisal`, { signal }).catch(() => null);
      if (found) tokens.take(found.data);
    },
  };
}

class Tokens {
  constructor(place, data, query) {
    Object.assign(this, {
      place,
      data,
      wanted: query.get("checkpoint"),
      view: query.get("view") ?? "after",
      wantedStep: query.get("step"),
      wantedSplit: query.get("split"),
    });
    this.controls = h("div", { class: "row token-controls" });
    this.readout = h(
      "p",
      { class: "readout stays", role: "status", "aria-live": "polite" },
      "Point at a token, or reach it with Tab and the arrow keys, for its numbers.",
    );
    this.texts = h("div", { class: "texts", onkeydown: (event) => this.key(event) });
    fill(place, this.controls, scaleOf(), this.readout, this.texts);
  }

  take(data) {
    if (
      JSON.stringify(data.map((one) => one.checkpoints.length)) === JSON.stringify(this.data.map((one) => one.checkpoints.length))
    )
      return;
    this.data = data;
    if (!this.texts.contains(document.activeElement)) this.show();
  }

  show() {
    const named = this.data.filter((one) => !this.wantedStep || one.step === this.wantedStep);
    this.of =
      named.find((one) => one.split === this.wantedSplit) ??
      named.find((one) => one.split !== "anchor") ??
      this.data[this.data.length - 1];
    this.base = this.of.checkpoints.find((one) => one.checkpoint === "base");
    const later = this.of.checkpoints.filter((one) => one.checkpoint !== "base");
    this.now = later.find((one) => String(one.checkpoint) === this.wanted) ?? later[later.length - 1] ?? this.base;
    fill(
      this.controls,
      this.select(
        "Text",
        this.data.map((one) => [`${one.step} ${one.split}`, `${one.step}, ${one.split}`]),
        `${this.of.step} ${this.of.split}`,
        (value) => ([this.wantedStep, this.wantedSplit] = value.split(" ")),
      ),
      this.select(
        "Checkpoint",
        later.map((one) => [String(one.checkpoint), String(one.checkpoint)]),
        String(this.now.checkpoint),
        (value) => (this.wanted = value),
      ),
      this.views(),
    );
    fill(
      this.texts,
      this.of.texts.map((text, index) => this.text(text, index)),
    );
    this.texts.querySelector(".token.scored")?.setAttribute("tabindex", "0");
  }

  select(label, options, present, take) {
    const id = `choose-${label.toLowerCase()}`;
    const chosen = h(
      "select",
      {
        id,
        onchange: () => (
          take(chosen.value),
          note({ tab: "tokens", step: this.wantedStep, split: this.wantedSplit, checkpoint: this.wanted, view: this.view }),
          this.show(),
          document.getElementById(id).focus()
        ),
      },
      options.map(([value, text]) => h("option", { value, selected: value === present }, text)),
    );
    return h("span", { class: "row" }, h("label", { for: id }, label), chosen);
  }

  views() {
    const one = ([view, label]) =>
      h(
        "button",
        {
          type: "button",
          class: "small chip",
          "aria-pressed": String(view === this.view),
          onclick: () => (
            (this.view = view),
            note({ tab: "tokens", step: this.wantedStep, checkpoint: this.wanted, view }),
            this.show(),
            [...this.controls.querySelectorAll("button")].find((button) => button.textContent === label)?.focus()
          ),
        },
        label,
      );
    return h(
      "span",
      { class: "row", role: "group", "aria-label": "What is coloured" },
      Object.entries({ before: "Before", after: "After", change: "Change" }).map(one),
    );
  }

  text(text, index) {
    const place = new Map(text.scored.map((at, number) => [at, number]));
    const [before, after] = [this.base.bits[index] ?? [], this.now.bits[index] ?? []];
    const tokens = text.tokens.map((token, at) =>
      place.has(at)
        ? this.token(token, before[place.get(at)], after[place.get(at)])
        : h("span", { class: "token masked", title: "read, not scored" }, visible(token)),
    );
    return h(
      "article",
      { class: "card" },
      h("h2", { class: "small quiet" }, `Text ${index + 1}: ${totals(before, after)}`),
      h("p", { class: "tokens" }, tokens),
    );
  }

  token(text, before, after) {
    const said = `“${visible(text).trim() || text}”: before ${bits(before)}, after ${bits(after)}, ${change(before, after)}`;
    const made = h(
      "span",
      {
        class: "token scored",
        role: "img",
        "aria-label": said,
        tabindex: "-1",
        dataset: { before: before ?? "", after: after ?? "" },
      },
      visible(text),
    );
    const [name, share] = shade(this.view, before, after);
    made.classList.add(name);
    made.style.setProperty("--share", `${Math.round(100 * share)}%`);
    for (const kind of ["pointerenter", "focus"]) made.addEventListener(kind, () => (this.readout.textContent = said));
    return made;
  }

  // One stop of Tab for all tokens, and arrows within.
  key(event) {
    const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10 };
    if (!(event.key in moves)) return;
    const all = [...this.texts.querySelectorAll(".token.scored")];
    const next = all[Math.min(all.length - 1, Math.max(0, all.indexOf(document.activeElement) + moves[event.key]))];
    event.preventDefault();
    document.activeElement.setAttribute("tabindex", "-1");
    next?.setAttribute("tabindex", "0");
    next?.focus();
  }
}

const bits = (value) => (value === null || value === undefined ? "no number" : `${number(value, 3)} bits`);

const change = (before, after) => (before == null || after == null ? "" : `${signed(after - before, 3)} bits`);

function totals(before, after) {
  const sum = (values) => values.reduce((total, value) => total + (value ?? 0), 0);
  return `${count(before.length)} tokens scored, ${number(sum(before), 4)} bits before, ${number(sum(after), 4)} after`;
}

function shade(view, before, after) {
  if (view !== "change") return ["cost", Math.min(1, ((view === "before" ? before : after) ?? MOST_BITS) / MOST_BITS)];
  const apart = (after ?? 0) - (before ?? 0);
  return [apart > 0 ? "worse" : "better", Math.min(1, Math.abs(apart) / MOST_CHANGE)];
}

function scaleOf() {
  const shades = [0, 3, 6, 9, 12].map((value) =>
    h(
      "span",
      { class: "token cost", style: { "--share": `${(100 * value) / MOST_BITS}%` } },
      `${value}${value === MOST_BITS ? "+" : ""}`,
    ),
  );
  return h(
    "p",
    { class: "row small quiet" },
    "bits:",
    shades,
    h("span", { class: "token better", style: { "--share": "70%" } }, "fewer than before"),
    h("span", { class: "token worse", style: { "--share": "70%" } }, "more than before"),
    h("span", { class: "token masked" }, "read, not scored"),
  );
}
