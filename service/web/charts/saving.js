// Every figure can be had as SVG, PNG and CSV, and read as a table.

import { fill, h } from "../dom.js";
import { number } from "../format.js";
import { onCanvas, svgText } from "./drawn.js";
import { rows } from "./figure.js";
import { scene } from "./scene.js";

const MOST_ROWS = 500;

// The buttons of a figure; `present` gives it as it is when one is pressed.
export function savingButtons(present) {
  const kinds = { SVG: saveSvg, PNG: savePng, CSV: saveCsv };
  const buttons = Object.entries(kinds).map(([kind, save]) =>
    h(
      "button",
      {
        type: "button",
        class: "plain small",
        onclick: () => save(present()),
        "aria-label": `Save as ${kind}: ${present().title}`,
      },
      kind,
    ),
  );
  return h("span", { class: "saving" }, buttons);
}

export const saveSvg = (figure) => save(`${figure.name}.svg`, new Blob([svgText(scene(figure))], { type: "image/svg+xml" }));

export function savePng(figure) {
  return new Promise((resolve) =>
    onCanvas(scene(figure)).toBlob((blob) => resolve(save(`${figure.name}.png`, blob)), "image/png"),
  );
}

// With every point there is, where the figure draws fewer.
export async function saveCsv(figure) {
  const whole = figure.whole ? await figure.whole() : figure;
  save(`${figure.name}.csv`, new Blob([csvText(whole)], { type: "text/csv" }));
}

export function csvText(figure) {
  const { head, body } = rows(figure);
  return [head, ...body].map((row) => row.map(cell).join(",") + "\r\n").join("");
}

// RFC 4180. What a spreadsheet would take for a formula is given a ' before it, unless it is a number.
function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : "";
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function save(name, blob) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name.replace(/[^\w.-]+/g, "-") }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

// The numbers as a table, made when it is opened.
export function tableOf(present) {
  const body = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Numbers of ${present().title}` });
  const open = () => details.open && fill(body, table(present()));
  const details = h("details", { class: "numbers", ontoggle: open }, h("summary", {}, "Numbers"), body);
  return { element: details, refresh: open };
}

function table(figure) {
  const { head, body } = rows(figure);
  const shown = body.slice(-MOST_ROWS);
  return [
    body.length > shown.length
      ? h("p", { class: "quiet" }, `The last ${MOST_ROWS} of ${body.length} rows; the CSV has them all.`)
      : null,
    h(
      "table",
      {},
      h("caption", { class: "visually-hidden" }, figure.title),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          head.map((name) => h("th", { scope: "col" }, name)),
        ),
      ),
      h(
        "tbody",
        {},
        shown.map((row) =>
          h(
            "tr",
            {},
            row.map((value) =>
              h(
                "td",
                typeof value === "number" ? { class: "number" } : {},
                typeof value === "number" ? number(value, 6) : (value ?? "–"),
              ),
            ),
          ),
        ),
      ),
    ),
  ];
}
