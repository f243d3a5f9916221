// A figure is what is drawn, before anything is drawn of it: the same numbers become the chart, its SVG, PNG, CSV and table.
//
//   {name, title, x: {label, name}, y: {label, log}, lines: [line], points: [point], marks: [mark], whole}
//
// `label` stands at an axis, with its unit; `name` heads a column. A line is {name, x, y, low, high, dashed, dots}, arrays of one
// length, `low` and `high` the interval where there is one. A point is {name, x, y, xLow, xHigh, yLow, yHigh, front, detail, href}.
// A mark is {x, y, name, detail}: something that happened at x. `whole()` promises the figure with every point, where fewer are drawn.

export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

// [[least x, greatest x], [least y, greatest y]] of all that is drawn, intervals too; null where nothing is.
export function extents(figure) {
  const [xs, ys] = [new Range(), new Range(figure.y.log)];
  for (const line of figure.lines ?? []) {
    xs.takeAll(line.x);
    for (const values of [line.y, line.low, line.high]) if (values) ys.takeAll(values);
  }
  for (const point of figure.points ?? []) {
    xs.takeAll([point.x, point.xLow, point.xHigh]);
    ys.takeAll([point.y, point.yLow, point.yHigh]);
  }
  if (figure.origin) takeOrigin(figure.points ?? [], xs, ys);
  return xs.isEmpty || ys.isEmpty ? null : [xs.padded(figure.points ? 0.06 : 0), ys.padded(0.06)];
}

// Where nothing is gained and nothing lost is shown, too, unless the points would then lie in a corner.
function takeOrigin(points, xs, ys) {
  for (const [range, of] of [
    [xs, "x"],
    [ys, "y"],
  ]) {
    const values = points.map((one) => one[of]).filter(isNumber);
    const [least, greatest] = [Math.min(...values), Math.max(...values)];
    if (greatest - least >= 0.25 * Math.max(Math.abs(least), Math.abs(greatest))) range.take(0);
  }
}

class Range {
  constructor(isLog = false) {
    this.isLog = isLog;
    [this.least, this.greatest] = [Infinity, -Infinity];
  }

  get isEmpty() {
    return this.least > this.greatest;
  }

  take(value) {
    if (!isNumber(value) || (this.isLog && value <= 0)) return;
    if (value < this.least) this.least = value;
    if (value > this.greatest) this.greatest = value;
  }

  takeAll(values) {
    for (const value of values) this.take(value);
  }

  padded(share) {
    if (this.isLog) return [this.least / 1.1, this.greatest * 1.1];
    const room = (this.greatest - this.least) * share || (share ? Math.abs(this.greatest) * share || 1 : 0.5);
    return this.greatest > this.least || share
      ? [this.least - (share ? room : 0), this.greatest + (share ? room : 0)]
      : [this.least - room, this.greatest + room];
  }
}

// What the figure says as rows under a head, for tables and CSV: every number as it is.
export function rows(figure) {
  return figure.points ? pointRows(figure) : lineRows(figure);
}

function lineRows({ lines, x, y }) {
  const spread = lines.some((line) => line.low);
  const head = ["line", x.name ?? x.label, y.label, ...(spread ? ["low", "high"] : [])];
  const body = lines.flatMap((line) =>
    line.x.map((at, index) => [
      line.name,
      at,
      line.y[index],
      ...(spread ? [line.low?.[index] ?? null, line.high?.[index] ?? null] : []),
    ]),
  );
  return { head, body };
}

function pointRows({ points, x, y }) {
  const head = ["checkpoint", x.label, "low", "high", y.label, "low", "high", "on the front"];
  const body = points.map((one) => [one.name, one.x, one.xLow, one.xHigh, one.y, one.yLow, one.yHigh, one.front ? "yes" : "no"]);
  return { head, body };
}

// A sentence for who cannot see it.
export function summary(figure) {
  const many = (figure.lines ?? []).map((line) => sentence(line, figure)).filter(Boolean);
  const points = figure.points
    ? [`${figure.points.length} checkpoints, ${figure.points.filter((one) => one.front).length} of them on the front`]
    : [];
  const marks = (figure.marks ?? []).map((mark) => `${mark.name} at ${mark.x}`);
  return [`${figure.title}: ${figure.y.label} against ${figure.x.label}`, ...many, ...points, ...marks].join(". ") + ".";
}

function sentence(line) {
  const known = line.y.flatMap((value, index) => (isNumber(value) ? [index] : []));
  if (!known.length) return "";
  const [first, last] = [known[0], known[known.length - 1]];
  return `${line.name} from ${short(line.y[first])} at ${line.x[first]} to ${short(line.y[last])} at ${line.x[last]}`;
}

export const short = (value) => (isNumber(value) ? String(Number(value.toPrecision(4))) : "none");
