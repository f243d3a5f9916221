// Formulas in LaTeX as MathML, which the browser typesets: with its lines, readable to screen readers. Temml is fetched when the
// first formula is shown.

import { h } from "./dom.js";

let temml = null;

const loaded = () =>
  (temml ??= new Promise((resolve, reject) =>
    document.head.append(
      h("script", {
        src: "web/vendor/temml/temml.min.js",
        onload: () => resolve(globalThis.temml),
        onerror: () => ((temml = null), reject(new Error("Temml could not be fetched."))),
      }),
    ),
  ));

// One that is wider than its place is scrolled, and is therefore to be reached with Tab.
const sizes = new ResizeObserver((seen) => {
  for (const { target } of seen) {
    const isWide = target.scrollWidth > target.clientWidth;
    for (const [name, value] of Object.entries({ tabindex: "0", role: "group", "aria-label": "Formula, wider than its place" }))
      if (isWide) target.setAttribute(name, value);
      else target.removeAttribute(name);
  }
});

// An element with the formula: its LaTeX until it is typeset, and for good where that cannot be done.
export function formula(latex, { display = true } = {}) {
  const place = h(display ? "div" : "span", { class: "formula" }, h("code", {}, latex));
  loaded()
    .then((library) => {
      const made = document.createElement(place.localName);
      library.render(latex, made, { displayMode: display, throwOnError: true, annotate: true });
      place.replaceChildren(...made.childNodes);
      sizes.observe(place);
    })
    .catch((error) => (place.dataset.wrong = error.message));
  return place;
}
