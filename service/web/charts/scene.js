// A figure as shapes on a sheet of paper: what SVG, PNG and the plots that are made of elements draw.
//
// A shape is {kind: "path", d, stroke, fill, width, dash, opacity}, {kind: "text", text, x, y, anchor, size, fill, turned, bold} or
// {kind: "point", x, y, r, fill, stroke, of}; `of` is the number of the figure's point.

import { line as colour, LIGHT } from "./colours.js";
import { extents, isNumber } from "./figure.js";
import { labels, ticks } from "./ticks.js";

export const FONT = "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif";

const MOST_NAMED = 24;

export function scene(figure, { width = 840, height = 480, colours = LIGHT, bare = false } = {}) {
  const named = figure.lines ?? groupsOf(figure.points);
  const names =
    named.length > 1 ? legend(named, { left: 70, right: width - 18, top: bare ? 16 : 46 }, colours) : { shapes: [], height: 0 };
  const box = { left: 70, top: (bare ? 14 : 44) + names.height, right: width - 18, bottom: height - (bare ? 48 : 54) };
  const shapes = [{ kind: "path", d: `M0 0H${width}V${height}H0Z`, fill: colours.ground }];
  if (!bare) shapes.push({ kind: "text", text: figure.title, x: box.left, y: 24, size: 16, fill: colours.ink, bold: true });
  const ends = extents(figure);
  if (ends === null) {
    const middle = { x: (box.left + box.right) / 2, y: (box.top + box.bottom) / 2 };
    shapes.push({ kind: "text", text: "Nothing is measured yet.", ...middle, anchor: "middle", size: 14, fill: colours.quiet });
    return { width, height, shapes, title: figure.title };
  }
  const at = scales(ends, box, figure.y.log);
  shapes.push(...axes(figure, ends, box, at, colours));
  (figure.lines ?? []).forEach((one, index) => shapes.push(...lineShapes(one, at, colour(colours, one.colour ?? index))));
  shapes.push(...pointShapes(figure.points ?? [], at, colours));
  for (const mark of figure.marks ?? []) shapes.push(...markShapes(mark, box, at, colours));
  shapes.push(...names.shapes);
  return { width, height, shapes, title: figure.title };
}

function scales([[left, right], [low, high]], box, isLog) {
  const of = isLog ? Math.log10 : (value) => value;
  const [bottom, top] = [of(low), of(high)];
  return {
    x: (value) => box.left + ((value - left) / (right - left)) * (box.right - box.left),
    y: (value) => box.bottom - ((of(value) - bottom) / (top - bottom)) * (box.bottom - box.top),
  };
}

function axes(figure, [[left, right], [low, high]], box, at, colours) {
  const shapes = [];
  const xs = ticks(left, right, Math.max(2, Math.floor((box.right - box.left) / 90)));
  const ys = ticks(low, high, 6, figure.y.log);
  labels(ys).forEach((text, index) => {
    const y = at.y(ys[index]);
    shapes.push({ kind: "path", d: `M${fixed(box.left)} ${fixed(y)}H${fixed(box.right)}`, stroke: colours.grid, width: 1 });
    shapes.push({ kind: "text", text, x: box.left - 8, y: y + 4, anchor: "end", size: 12, fill: colours.quiet });
  });
  labels(xs).forEach((text, index) => {
    const x = at.x(xs[index]);
    shapes.push({ kind: "path", d: `M${fixed(x)} ${fixed(box.bottom)}v5`, stroke: colours.quiet, width: 1 });
    shapes.push({ kind: "text", text, x, y: box.bottom + 19, anchor: "middle", size: 12, fill: colours.quiet });
  });
  shapes.push({ kind: "path", d: `M${box.left} ${box.bottom}H${box.right}`, stroke: colours.quiet, width: 1 });
  const [middle, height] = [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
  shapes.push({
    kind: "text",
    text: figure.x.label,
    x: middle,
    y: box.bottom + 40,
    anchor: "middle",
    size: 13,
    fill: colours.ink,
  });
  shapes.push({
    kind: "text",
    text: figure.y.label,
    x: 16,
    y: height,
    anchor: "middle",
    size: 13,
    fill: colours.ink,
    turned: true,
  });
  return shapes;
}

function lineShapes(line, at, stroke) {
  const shapes = [];
  if (line.low) shapes.push({ kind: "path", d: band(line, at), fill: stroke, opacity: 0.16 });
  shapes.push({ kind: "path", d: path(line, at), stroke, width: 1.8, dash: line.dashed ? "6 4" : undefined });
  if (line.dots) {
    line.x.forEach(
      (x, index) =>
        isNumber(line.y[index]) && shapes.push({ kind: "point", x: at.x(x), y: at.y(line.y[index]), r: 3, fill: stroke }),
    );
  }
  return shapes;
}

// A value that is no number leaves a gap.
function path(line, at) {
  let [d, isDown] = ["", false];
  line.x.forEach((x, index) => {
    const y = line.y[index];
    if (isNumber(y)) d += `${isDown ? "L" : "M"}${fixed(at.x(x))} ${fixed(at.y(y))}`;
    isDown = isNumber(y);
  });
  return d || "M0 0";
}

function band(line, at) {
  const known = line.x.flatMap((_, index) => (isNumber(line.low[index]) && isNumber(line.high[index]) ? [index] : []));
  if (!known.length) return "M0 0";
  const over = known.map((index) => `${fixed(at.x(line.x[index]))} ${fixed(at.y(line.high[index]))}`);
  const under = known.reverse().map((index) => `${fixed(at.x(line.x[index]))} ${fixed(at.y(line.low[index]))}`);
  return `M${over.join("L")}L${under.join("L")}Z`;
}

// Each job's points in its colour, full where they are on its front and hollow where they are not.
function pointShapes(points, at, colours) {
  const groups = [...new Set(points.map((one) => one.group))];
  const fronts = groups.flatMap((group) =>
    frontShape(
      points.filter((one) => one.group === group && one.front),
      at,
      colours,
    ),
  );
  return [...fronts, ...points.flatMap((one, of) => pointShape(one, of, at, colours)), ...pointNames(points, at, colours)];
}

// Those on the front and the last ones first; a name that would cover another is left to whoever points at it.
function pointNames(points, at, colours) {
  const placed = [];
  const order = points.toReversed().sort((a, b) => Number(b.front) - Number(a.front));
  for (const one of order) {
    const name = {
      kind: "text",
      text: one.short ?? one.name,
      x: at.x(one.x) + 8,
      y: at.y(one.y) - 8,
      size: 12,
      fill: colours.quiet,
    };
    const isFree = placed.every(
      (other) =>
        Math.abs(other.y - name.y) > 12 || Math.abs(other.x - name.x) > 7 * Math.max(other.text.length, name.text.length) + 4,
    );
    if (isFree) placed.push(name);
  }
  return placed;
}

const pointColour = (one, colours) => colour(colours, one.colour ?? 0);

// The front as steps: between two of its checkpoints no more is to be had than the one on the left gives.
function frontShape(points, at, colours) {
  if (!points.length) return [];
  const ordered = points.toSorted((a, b) => a.x - b.x);
  const steps = ordered.map((one, index) =>
    index ? `H${fixed(at.x(one.x))}V${fixed(at.y(one.y))}` : `M${fixed(at.x(one.x))} ${fixed(at.y(one.y))}`,
  );
  return [{ kind: "path", d: steps.join(""), stroke: pointColour(points[0], colours), width: 1.5, dash: "5 4" }];
}

function pointShape(one, of, at, colours) {
  const stroke = pointColour(one, colours);
  const [x, y] = [at.x(one.x), at.y(one.y)];
  const bars = [
    isNumber(one.xLow) ? `M${fixed(at.x(one.xLow))} ${fixed(y)}H${fixed(at.x(one.xHigh))}` : "",
    isNumber(one.yLow) ? `M${fixed(x)} ${fixed(at.y(one.yLow))}V${fixed(at.y(one.yHigh))}` : "",
  ].join("");
  return [
    bars ? { kind: "path", d: bars, stroke, width: 1.2, opacity: 0.7 } : null,
    { kind: "point", x, y, r: one.front ? 5.5 : 4.5, fill: one.front ? stroke : colours.ground, stroke, of },
  ].filter(Boolean);
}

function markShapes(mark, box, at, colours) {
  const x = fixed(at.x(mark.x));
  const shapes = [
    { kind: "path", d: `M${x} ${box.top}V${box.bottom}`, stroke: colours.alert, width: 1, dash: "3 4" },
    { kind: "path", d: `M${x} ${box.top}l-6 -9h12Z`, fill: colours.alert },
  ];
  if (isNumber(mark.y)) shapes.push({ kind: "point", x: Number(x), y: at.y(mark.y), r: 6, fill: "none", stroke: colours.alert });
  return shapes;
}

function groupsOf(points) {
  const known = new Map(points.map((one) => [one.group, { name: one.group, colour: one.colour }]));
  return [...known.values()].filter((one) => one.name);
}

// In rows above the curves, where they are in nobody's way. How wide a text is is guessed from its letters.
function legend(lines, { left, right, top }, colours) {
  const shapes = [];
  let [x, y] = [left, top];
  lines.slice(0, MOST_NAMED).forEach((one, index) => {
    const width = 40 + 7 * one.name.length;
    if (x > left && x + width > right) [x, y] = [left, y + 18];
    const stroke = colour(colours, one.colour ?? index);
    shapes.push({ kind: "path", d: `M${x} ${y - 4}h20`, stroke, width: 2.5, dash: one.dashed ? "6 4" : undefined });
    shapes.push({ kind: "text", text: one.name, x: x + 26, y, size: 12, fill: colours.ink });
    x += width;
  });
  return { shapes, height: y - top + 20 };
}

const fixed = (value) => Number(value.toFixed(2));
