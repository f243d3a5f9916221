// A chart of points with their intervals, as elements: each point can be reached with Tab, and says its numbers.

import { fill, h } from "../dom.js";
import { number } from "../format.js";
import { onTheme, present } from "./colours.js";
import { svgElement } from "./drawn.js";
import { isNumber, summary } from "./figure.js";
import { savingButtons, tableOf } from "./saving.js";
import { scene } from "./scene.js";

// `onChoose(point)` is told which point was clicked, or Enter pressed on.
export function scatterChart(figure, { signal, onChoose } = {}) {
  return new ScatterChart(figure, signal, onChoose);
}

class ScatterChart {
  constructor(figure, signal, onChoose) {
    this.figure = figure;
    this.onChoose = onChoose;
    this.title = h("span", { class: "title" });
    this.plot = h("div", { class: "plot points", role: "group" });
    this.readout = h("p", { class: "readout", role: "status", "aria-live": "polite" });
    this.table = tableOf(() => this.figure);
    const head = h(
      "figcaption",
      {},
      this.title,
      savingButtons(() => this.figure),
    );
    this.element = h("figure", { class: "chart" }, head, this.plot, this.readout, this.table.element);
    const observer = new ResizeObserver(() => this.plot.clientWidth !== this.width && this.draw());
    observer.observe(this.plot);
    onTheme(() => this.draw(), signal);
    signal?.addEventListener("abort", () => observer.disconnect(), { once: true });
    this.draw();
  }

  update(figure) {
    this.figure = figure;
    this.draw();
  }

  draw() {
    this.title.textContent = this.figure.title;
    this.plot.setAttribute("aria-label", summary(this.figure));
    this.table.refresh();
    this.width = this.plot.clientWidth;
    if (!this.figure.points.length)
      return fill(this.plot, h("p", { class: "quiet empty" }, this.figure.empty ?? "Nothing is measured yet."));
    const focused = this.plot.contains(document.activeElement) ? document.activeElement.dataset.of : null;
    const drawn = svgElement(
      scene(this.figure, { width: Math.max(280, this.width || 640), height: 340, colours: present(), bare: true }),
    );
    drawn.removeAttribute("aria-hidden");
    for (const circle of drawn.querySelectorAll("circle[data-of]")) this.bring(circle);
    fill(this.plot, drawn);
    if (focused) drawn.querySelector(`circle[data-of="${focused}"]`)?.focus();
  }

  bring(circle) {
    const point = this.figure.points[circle.dataset.of];
    circle.setAttribute("tabindex", "0");
    circle.setAttribute("role", "img");
    circle.setAttribute("aria-label", sentence(point, this.figure));
    for (const name of ["focus", "pointerenter"])
      circle.addEventListener(name, () => (this.readout.textContent = sentence(point, this.figure)));
    if (!this.onChoose) return;
    circle.setAttribute("role", "button");
    circle.addEventListener("click", () => this.onChoose(point));
    circle.addEventListener(
      "keydown",
      (event) => ["Enter", " "].includes(event.key) && (event.preventDefault(), this.onChoose(point)),
    );
  }
}

function sentence(point, figure) {
  const of = (axis, value, low, high) =>
    `${axis.name ?? axis.label} ${number(value)}${isNumber(low) ? ` [${number(low)}, ${number(high)}]` : ""}`;
  const parts = [
    of(figure.y, point.y, point.yLow, point.yHigh),
    of(figure.x, point.x, point.xLow, point.xHigh),
    point.front ? "on the front" : "not on the front",
  ];
  return `${point.name}: ${parts.join(", ")}`;
}
