// A chart of lines on a canvas, by uPlot: drag to look closer, double-click to see all; with the keyboard ← → move from point to
// point, + − look closer and less close, 0 shows all.

import { fill, h } from "../dom.js";
import { number } from "../format.js";
import uPlot from "../vendor/uplot/uPlot.esm.js";
import { line as colour, onTheme, present } from "./colours.js";
import { extents, isFinite_, summary } from "./figure.js";
import { savingButtons, tableOf } from "./saving.js";
import { labels, ticks } from "./ticks.js";

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
    this.plot = h("div", { class: "plot", tabindex: "0", role: "application", "aria-roledescription": "chart", onkeydown: (event) => this.key(event) });
    this.readout = h("p", { class: "readout", role: "status", "aria-live": "polite" });
    this.table = tableOf(() => this.figure);
    const head = h("figcaption", {}, this.title, savingButtons(() => this.figure));
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
    if (extents(this.figure) === null) return fill(this.plot, h("p", { class: "quiet empty" }, this.figure.empty ?? "Nothing is measured yet."));
    this.chart = new uPlot(this.options(), columns(this.figure), this.plot);
    this.frame();
  }

  describe() {
    this.title.textContent = this.figure.title;
    this.plot.setAttribute("aria-label", summary(this.figure));
    this.plot.setAttribute("aria-description", "Arrow keys move from point to point, plus and minus look closer and less close, 0 shows all.");
    fill(this.legend, legend(this.figure, this.hidden, (index) => this.toggle(index)));
    this.table.refresh();
  }

  options() {
    const colours = present();
    const { x, y } = this.figure;
    const ink = { stroke: colours.quiet, font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif", ticks: { stroke: colours.grid, width: 1 } };
    return {
      width: Math.max(200, this.plot.clientWidth),
      height: HEIGHT,
      legend: { show: false },
      cursor: { drag: { x: true, y: false, setScale: true }, points: { size: 7 } },
      scales: { x: { time: false }, y: { distr: y.log ? 3 : 1 } },
      axes: [
        { ...ink, label: x.label, labelSize: 18, size: 34, grid: { show: false }, values: (_, splits) => labels(splits) },
        { ...ink, label: y.label, labelSize: 18, size: 62, grid: { stroke: colours.grid, width: 1 }, values: (_, splits) => (y.log ? splits.map(power) : labels(splits)) },
      ],
      series: [{}, ...seriesOf(this.figure, colours, this.hidden)],
      bands: bandsOf(this.figure, colours),
      hooks: {
        setCursor: [(chart) => this.read(chart.cursor.idx)],
        setSelect: [() => queueMicrotask(() => this.looked())],
        draw: [(chart) => drawMarks(chart, this.figure.marks ?? [], colours)],
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

  looked() {
    const { min, max } = this.chart.scales.x;
    if (this.chart.select.width > 0) this.look([min, max]);
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
    const said = this.figure.lines.flatMap((one, place) => (this.hidden.has(place) ? [] : [said_(one, x, place, colours)]));
    const marks = (this.figure.marks ?? []).filter((mark) => mark.x === x).map((mark) => h("strong", { class: "alert" }, mark.detail ?? mark.name));
    fill(this.readout, h("span", {}, `${this.figure.x.name ?? this.figure.x.label} ${number(x, 7)}`), said, marks);
  }
}

function said_(one, x, place, colours) {
  const index = nearest(one.x, x);
  if (index < 0 || !isFinite_(one.y[index])) return null;
  const spread = one.low && isFinite_(one.low[index]) ? ` [${number(one.low[index])}, ${number(one.high[index])}]` : "";
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

const swatch = (one, place, colours) => h("span", { class: one.dashed ? "swatch dashed" : "swatch", style: { color: colour(colours, one.colour ?? place) }, "aria-hidden": "true" });

function legend(figure, hidden, toggle) {
  if (figure.lines.length < 2) return [];
  return figure.lines.map((one, place) =>
    h("button", { type: "button", class: "plain small", "aria-pressed": String(!hidden.has(place)), onclick: () => toggle(place) }, swatch(one, place, present()), one.name),
  );
}

const shape = (figure) => JSON.stringify([figure.y.log, figure.y.label, figure.lines.map((one) => [one.name, Boolean(one.low), one.dots])]);

function columns(figure) {
  const tables = figure.lines.flatMap((one) => [[one.x, one.y], ...(one.low ? [[one.x, one.high], [one.x, one.low]] : [])]);
  return tables.length === 1 ? tables[0] : uPlot.join(tables);
}

function seriesOf(figure, colours, hidden) {
  return figure.lines.flatMap((one, place) => {
    const stroke = colour(colours, one.colour ?? place);
    const show = !hidden.has(place);
    const own = { label: one.name, stroke, width: 1.6, show, spanGaps: true, dash: one.dashed ? [6, 4] : undefined, points: one.dots ? { show: true, size: 6, fill: stroke } : { show: one.x.length < 3 } };
    const end = { stroke: "transparent", width: 0, show, spanGaps: true, points: { show: false } };
    return one.low ? [own, end, end] : [own];
  });
}

function bandsOf(figure, colours) {
  const bands = [];
  let place = 1;
  figure.lines.forEach((one, index) => {
    if (one.low) bands.push({ series: [place + 1, place + 2], fill: `${colour(colours, one.colour ?? index)}2b` });
    place += one.low ? 3 : 1;
  });
  return bands;
}

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

function drawMarks(chart, marks, colours) {
  const pen = chart.ctx;
  const ratio = uPlot.pxRatio;
  const { top, height, left, width } = chart.bbox;
  pen.save();
  for (const mark of marks) {
    const x = chart.valToPos(mark.x, "x", true);
    if (x < left || x > left + width) continue;
    [pen.strokeStyle, pen.fillStyle, pen.lineWidth] = [colours.alert, colours.alert, ratio];
    pen.setLineDash([3 * ratio, 4 * ratio]);
    pen.stroke(new Path2D(`M${x} ${top}V${top + height}`));
    pen.setLineDash([]);
    pen.fill(new Path2D(`M${x} ${top + 9 * ratio}l${-6 * ratio} ${-9 * ratio}h${12 * ratio}Z`));
    if (!isFinite_(mark.y)) continue;
    pen.beginPath();
    pen.arc(x, chart.valToPos(mark.y, "y", true), 6 * ratio, 0, 2 * Math.PI);
    [pen.lineWidth] = [2 * ratio];
    pen.stroke();
  }
  pen.restore();
}

const power = (value) => (value === null ? "" : ticks(1, 10).includes(value) ? String(value) : number(value, 1));
