// A chart of lines on a canvas, by uPlot: drag to look closer, double-click to see all; with the keyboard ← → move from point to
// point, + − look closer and less close, 0 shows all.

import { fill, h } from "../dom.js";
import { number } from "../format.js";
import uPlot from "../vendor/uplot/uPlot.esm.js";
import { line as colour, onTheme, present } from "./colours.js";
import { extents, isNumber, summary } from "./figure.js";
import { savingButtons, tableOf } from "./saving.js";
import { columns, drawMarks, optionsOf } from "./uplot.js";

const HEIGHT = 300;

// `onRange(from, to)` is told what part of x is looked at; null, null for all of it.
export function lineChart(figure, { signal, onRange = () => {} } = {}) {
  return new LineChart(figure, signal, onRange);
}

class LineChart {
  constructor(figure, signal, onRange) {
    this.figure = figure;
    this.onRange = onRange;
    this.hidden = new Set();
    this.range = null; // the part of x that is looked at; null: all
    this.title = h("span", { class: "title" });
    this.legend = h("div", { class: "legend" });
    this.plot = h("div", {
      class: "plot",
      tabindex: "0",
      role: "application",
      "aria-roledescription": "chart",
      onkeydown: (event) => this.key(event),
    });
    this.readout = h("p", { class: "readout", role: "status", "aria-live": "polite" });
    this.table = tableOf(() => this.figure);
    const head = h(
      "figcaption",
      {},
      this.title,
      savingButtons(() => this.figure),
    );
    this.element = h("figure", { class: "chart" }, head, this.legend, this.plot, this.readout, this.table.element);
    const observer = new ResizeObserver(() => this.resize());
    observer.observe(this.plot);
    onTheme(() => this.draw(), signal);
    signal?.addEventListener("abort", () => (observer.disconnect(), this.chart?.destroy()), { once: true });
    this.draw();
  }

  // The same chart with other numbers; what is looked at stays.
  update(figure) {
    const isSame = this.chart && shape(figure) === shape(this.figure);
    this.figure = figure;
    this.describe();
    if (!isSame) return this.draw();
    const at = this.chart.cursor.idx;
    this.chart.setData(columns(figure), false);
    this.frame();
    if (at !== null && at !== undefined && document.activeElement === this.plot) this.point(at);
  }

  draw() {
    this.chart?.destroy();
    this.chart = null;
    this.describe();
    fill(this.plot);
    if (extents(this.figure) === null)
      return fill(this.plot, h("p", { class: "quiet empty" }, this.figure.empty ?? "Nothing is measured yet."));
    this.chart = new uPlot(this.options(), columns(this.figure), this.plot);
    this.frame();
  }

  describe() {
    this.title.textContent = this.figure.title;
    this.plot.setAttribute("aria-label", summary(this.figure));
    this.plot.setAttribute(
      "aria-description",
      "Arrow keys move from point to point, plus and minus look closer and less close, 0 shows all.",
    );
    fill(
      this.legend,
      legend(this.figure, this.hidden, (index) => this.toggle(index)),
    );
    this.table.refresh();
  }

  options() {
    return {
      ...optionsOf(this.figure, present(), this.hidden),
      width: Math.max(200, this.plot.clientWidth),
      height: HEIGHT,
      hooks: {
        setCursor: [(chart) => this.read(chart.cursor.idx)],
        setSelect: [(chart) => this.looked(chart)],
        draw: [(chart) => drawMarks(chart, this.figure.marks ?? [], present())],
        ready: [(chart) => chart.over.addEventListener("dblclick", () => this.look(null))],
      },
    };
  }

  resize() {
    const width = this.plot.clientWidth;
    if (this.chart && width > 0 && Math.abs(width - this.chart.width) > 1) this.chart.setSize({ width, height: HEIGHT });
  }

  // Both axes to what is looked at: all of y that stands in the part of x.
  frame() {
    const [[left, right]] = extents(this.figure);
    const [from, to] = this.range ?? [left, right];
    const within = extents(part(this.figure, from, to, this.hidden));
    this.chart.batch(() => {
      this.chart.setScale("x", { min: from, max: to });
      if (within) this.chart.setScale("y", { min: within[1][0], max: within[1][1] });
    });
  }

  // What was dragged over is looked at.
  looked(chart) {
    const { left, width } = chart.select;
    if (width <= 0) return;
    const range = [chart.posToVal(left, "x"), chart.posToVal(left + width, "x")];
    chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.look(range);
  }

  look(range) {
    this.range = range;
    this.frame();
    this.onRange(...(range ?? [null, null]));
  }

  toggle(index) {
    if (this.hidden.has(index)) this.hidden.delete(index);
    else this.hidden.add(index);
    this.draw();
  }

  key(event) {
    if (!this.chart || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = this.chart.data[0].length - 1;
    const at = this.chart.cursor.idx ?? null;
    const acts = {
      ArrowRight: () => this.point(Math.min(last, at === null ? 0 : at + (event.shiftKey ? 10 : 1))),
      ArrowLeft: () => this.point(Math.max(0, at === null ? last : at - (event.shiftKey ? 10 : 1))),
      Home: () => this.point(0),
      End: () => this.point(last),
      "+": () => this.zoom(0.5),
      "=": () => this.zoom(0.5),
      "-": () => this.zoom(2),
      0: () => this.look(null),
      Escape: () => this.look(null),
    };
    if (!(event.key in acts)) return;
    event.preventDefault();
    acts[event.key]();
  }

  point(index) {
    const x = this.chart.data[0][index];
    this.chart.setCursor({ left: this.chart.valToPos(x, "x"), top: 10 });
    this.read(index);
  }

  zoom(times) {
    const [[left, right]] = extents(this.figure);
    const { min, max } = this.chart.scales.x;
    const middle = this.chart.cursor.idx == null ? (min + max) / 2 : this.chart.data[0][this.chart.cursor.idx];
    const [from, to] = [Math.max(left, middle - ((max - min) / 2) * times), Math.min(right, middle + ((max - min) / 2) * times)];
    this.look(from <= left && to >= right ? null : [from, to]);
  }

  // The numbers under the cursor.
  read(index) {
    if (index === null || index === undefined) return (this.readout.textContent = "");
    const x = this.chart.data[0][index];
    const colours = present();
    const said = this.figure.lines.flatMap((one, place) => (this.hidden.has(place) ? [] : [lineSaid(one, x, place, colours)]));
    const marks = (this.figure.marks ?? [])
      .filter((mark) => mark.x === x)
      .map((mark) => h("strong", { class: "alert" }, mark.detail ?? mark.name));
    fill(this.readout, h("span", {}, `${this.figure.x.name ?? this.figure.x.label} ${number(x, 7)}`), said, marks);
  }
}

function lineSaid(one, x, place, colours) {
  const index = nearest(one.x, x);
  if (index < 0 || !isNumber(one.y[index])) return null;
  const spread = one.low && isNumber(one.low[index]) ? ` [${number(one.low[index])}, ${number(one.high[index])}]` : "";
  const where = one.x[index] === x ? "" : ` (at ${number(one.x[index], 7)})`;
  return h("span", {}, swatch(one, place, colours), `${one.name} ${number(one.y[index], 5)}${spread}${where}`);
}

// The last that is not behind x, by halving.
function nearest(xs, x) {
  let [low, high] = [0, xs.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= x) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

const swatch = (one, place, colours) =>
  h("span", {
    class: one.dashed ? "swatch dashed" : "swatch",
    style: { color: colour(colours, one.colour ?? place) },
    "aria-hidden": "true",
  });

function legend(figure, hidden, toggle) {
  if (figure.lines.length < 2) return [];
  return figure.lines.map((one, place) =>
    h(
      "button",
      { type: "button", class: "plain small", "aria-pressed": String(!hidden.has(place)), onclick: () => toggle(place) },
      swatch(one, place, present()),
      one.name,
    ),
  );
}

const shape = (figure) =>
  JSON.stringify([figure.y.log, figure.y.label, figure.lines.map((one) => [one.name, Boolean(one.low), one.dots])]);

// What is looked at of it; where nothing stands there, all of it.
function part(figure, from, to, hidden) {
  const lines = figure.lines.flatMap((one, place) => (hidden.has(place) ? [] : [cut(one, from, to)]));
  return { ...figure, lines, marks: [] };
}

function cut(one, from, to) {
  const inside = one.x.flatMap((x, index) => (x >= from && x <= to ? [index] : []));
  const of = (values) => values && inside.map((index) => values[index]);
  return { x: of(one.x), y: of(one.y), low: of(one.low), high: of(one.high) };
}
