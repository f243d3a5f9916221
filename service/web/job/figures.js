// From what the service answers of a job to figures: series, measures, and gain against drift.

const NATS = "nats/token";
const SERIES_UNITS = { learning_rate: "per update", tokens_per_second: "tokens/s", tokens: "tokens", grad_norm: "2-norm" };

const human = (name) => name.replaceAll("_", " ").replace("cross entropy", "cross-entropy").replace(/^kl /, "KL ");

// What the loss of a stage is counted in; one of several parts has no unit.
const lossUnit = (stage) => ({ pt: NATS, sft: NATS, rm: "nats/pair", dpo: "nats" })[stage] ?? "";

export function seriesLabel(name, stage) {
  const unit = name === "loss" ? lossUnit(stage) : (SERIES_UNITS[name] ?? "");
  return unit ? `${human(name)}, ${unit}` : human(name);
}

// A training series, of one job or of several: `many` is [{name, series: {step, value}, stage, dashed}].
export function seriesFigure(name, many, { step, marks = [], whole } = {}) {
  const lines = many.map(({ name: line, series, colour }) => ({ name: line, x: series.step, y: series.value, colour }));
  const label = seriesLabel(name, many[0]?.stage);
  return {
    name: `${name}-${step ?? "compared"}`,
    title: titled(human(name), step),
    x: { label: "update", name: "update" },
    y: { label },
    lines,
    marks: marks.map((mark) => ({ ...mark, y: lines.length === 1 ? at(lines[0], mark.x) : undefined })),
    whole,
    empty: "No update has been told of yet.",
  };
}

// The last value at x or before.
function at(line, x) {
  const index = line.x.findLastIndex((one) => one <= x);
  return index < 0 ? undefined : line.y[index];
}

// One measure at the base (update 0) and each checkpoint, a line for each text that it was taken on. `many` is
// [{name, entries}], the entries those of GET /jobs/{id}/metrics, of one step.
export function measureFigure(measure, many, { step, counted = "update" }) {
  const lines = many.flatMap(({ name, entries, colour }) => linesOf(measure, name, entries, colour));
  const unit = many.flatMap(({ entries }) => entries).find((entry) => entry.measures[measure])?.measures[measure].unit;
  return {
    name: `${measure}-${step ?? "compared"}`.replaceAll(":", "-"),
    title: titled(human(measure), step),
    x: { label: counted, name: counted },
    y: { label: unit && unit !== "1" ? `${human(measure)}, ${unit}` : human(measure) },
    lines,
    marks: many.length === 1 ? alertMarks(many[0].entries, measure) : [],
    empty: "Not measured yet.",
  };
}

function linesOf(measure, name, entries, colour) {
  const splits = [...new Set(entries.filter((entry) => entry.measures[measure]).map((entry) => entry.split))];
  return splits.map((split) => {
    const taken = entries.filter((entry) => entry.split === split && entry.measures[measure]);
    const of = (choose) => taken.map((entry) => choose(entry.measures[measure]));
    const spread = taken.some((entry) => entry.measures[measure].interval);
    return {
      name: [name, splits.length > 1 || !name ? split : ""].filter(Boolean).join(", "),
      x: taken.map((entry) => (entry.checkpoint === "base" ? 0 : entry.checkpoint)),
      y: of((one) => one.value),
      low: spread ? of((one) => one.interval?.[0] ?? null) : undefined,
      high: spread ? of((one) => one.interval?.[1] ?? null) : undefined,
      dots: true,
      dashed: split === "anchor",
      colour,
    };
  });
}

// Where alerts fired, at what was measured there if it is the measure's own.
export function alertMarks(entries, measure = null) {
  return entries.flatMap((entry) =>
    entry.checkpoint === "base"
      ? []
      : entry.alerts.map((alert) => ({
          x: entry.checkpoint,
          y: measure ? entry.measures[measure]?.value : undefined,
          name: human(alert.alert),
          detail: alertSentence(alert, entry),
        })),
  );
}

export function alertSentence(alert, entry) {
  const side = alert.bound !== null && alert.bound !== alert.statistic ? `, bound ${short(alert.bound)}` : "";
  return `${capital(human(alert.alert))} at ${entry.checkpoint} (${entry.split}): ${short(alert.statistic)} ${alert.unit}${side}, limit ${short(alert.threshold)}.`;
}

const short = (value) => (value === null ? "unknown" : String(Number(value.toPrecision(3))));

// Gain: how much the cross-entropy of the task's text fell. Drift: D(base ‖ checkpoint), on the anchor where there is one. `ofFront`
// is [{step, global_step}] of GET /jobs/{id}/checkpoints.
export function gainFigure(many, { step }) {
  const points = many.flatMap(({ name, entries, front, colour }) => pointsOf(entries, name, front, colour));
  const isAnchor = points.some((point) => point.split === "anchor");
  return {
    name: `gain-and-drift-${step ?? "compared"}`,
    title: titled("gain against drift", step),
    x: { label: `drift: KL from the base${isAnchor ? ", anchor" : ""}, bits/token`, name: "drift" },
    y: { label: "gain: cross-entropy lost, bits/token", name: "gain" },
    points,
    origin: true,
    empty: "Gain and drift are known once cross_entropy and kl_from_base are measured at a checkpoint.",
  };
}

function pointsOf(entries, name, front, colour) {
  const isOnFront = new Set(front.map((one) => `${one.step} ${one.global_step}`));
  const numbers = [...new Set(entries.map((entry) => entry.checkpoint))].filter((one) => one !== "base");
  return numbers.flatMap((checkpoint) => {
    const of = entries.filter((entry) => entry.checkpoint === checkpoint);
    const gain = of.find((entry) => entry.split !== "anchor" && entry.measures.cross_entropy?.versus_base?.value != null)
      ?.measures.cross_entropy.versus_base;
    const drifts = of.filter((entry) => entry.measures.kl_from_base?.value != null);
    const from = drifts.find((entry) => entry.split === "anchor") ?? drifts[0];
    if (!gain || !from) return [];
    const drift = from.measures.kl_from_base;
    return [
      {
        name: [name, `checkpoint ${checkpoint}`].filter(Boolean).join(", "),
        short: String(checkpoint),
        x: drift.value,
        xLow: drift.interval?.[0],
        xHigh: drift.interval?.[1],
        y: -gain.value,
        yLow: gain.interval ? -gain.interval[1] : undefined,
        yHigh: gain.interval ? -gain.interval[0] : undefined,
        front: isOnFront.has(`${of[0].step} ${checkpoint}`),
        split: from.split,
        group: name,
        colour,
        checkpoint,
      },
    ];
  });
}

const titled = (what, step) => (step ? `${capital(what)} of ${step}` : capital(what));

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
