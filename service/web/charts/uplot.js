// A figure as uPlot wants it: columns over one x, its series, bands and axes; and the marks, which it does not know of.

import { number } from "../format.js";
import uPlot from "../vendor/uplot/uPlot.esm.js";
import { line as colour } from "./colours.js";
import { isNumber } from "./figure.js";
import { labels, ticks } from "./ticks.js";

const FONT = "12px system-ui, sans-serif";

export function optionsOf(figure, colours, hidden) {
  return {
    legend: { show: false },
    cursor: { drag: { x: true, y: false, setScale: false }, points: { size: 7 } },
    scales: { x: { time: false }, y: { distr: figure.y.log ? 3 : 1 } },
    axes: axesOf(figure, colours),
    series: [{}, ...seriesOf(figure, colours, hidden)],
    bands: bandsOf(figure, colours),
  };
}

function axesOf({ x, y }, colours) {
  const ink = { stroke: colours.quiet, font: FONT, labelFont: FONT, labelSize: 18, ticks: { stroke: colours.grid, width: 1 } };
  const said = (_, splits) => (y.log ? splits.map(power) : labels(splits));
  return [
    { ...ink, label: x.label, size: 34, grid: { show: false }, values: (_, splits) => labels(splits) },
    { ...ink, label: y.label, size: 62, grid: { stroke: colours.grid, width: 1 }, values: said },
  ];
}

const power = (value) => (value === null ? "" : ticks(1, 10).includes(value) ? String(value) : number(value, 1));

// A line with an interval is three columns: itself, and the ends.
export function columns(figure) {
  const tables = figure.lines.flatMap((one) => [
    [one.x, one.y],
    ...(one.low
      ? [
          [one.x, one.high],
          [one.x, one.low],
        ]
      : []),
  ]);
  return tables.length === 1 ? tables[0] : uPlot.join(tables);
}

function seriesOf(figure, colours, hidden) {
  return figure.lines.flatMap((one, place) => {
    const stroke = colour(colours, one.colour ?? place);
    const show = !hidden.has(place);
    const own = {
      label: one.name,
      stroke,
      width: 1.6,
      show,
      spanGaps: false,
      dash: one.dashed ? [6, 4] : undefined,
      points: one.dots ? { show: true, size: 6, fill: stroke } : { show: one.x.length < 3 },
    };
    const end = { stroke: "transparent", width: 0, show, spanGaps: false, points: { show: false } };
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

export function drawMarks(chart, marks, colours) {
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
    if (!isNumber(mark.y)) continue;
    pen.beginPath();
    pen.arc(x, chart.valToPos(mark.y, "y", true), 6 * ratio, 0, 2 * Math.PI);
    [pen.lineWidth] = [2 * ratio];
    pen.stroke();
  }
  pen.restore();
}
