// What was asked for, and what runs: every argument of every step.

import { fill, h } from "../dom.js";
import { to } from "../route.js";

export async function side(place, job) {
  const document = JSON.stringify(job.spec, null, 2);
  const copy = h(
    "button",
    {
      type: "button",
      class: "small",
      onclick: () => navigator.clipboard?.writeText(document).then(() => (copy.textContent = "Copied")),
    },
    "Copy",
  );
  fill(
    place,
    h(
      "section",
      { class: "card" },
      h(
        "div",
        { class: "head" },
        h("h2", {}, "As it was asked for"),
        h(
          "div",
          { class: "row" },
          copy,
          h("a", { class: "button small", href: to("/submit", { from: job.id }) }, "Submit one like it"),
        ),
      ),
      h("pre", { tabindex: "0", "aria-label": "The spec" }, document),
    ),
    h(
      "section",
      { class: "card" },
      h("h2", {}, "As it runs"),
      h("p", { class: "quiet" }, "Every argument of every step, defaults too."),
      h("pre", { tabindex: "0", "aria-label": "The resolved spec" }, JSON.stringify(job.resolved, null, 2)),
    ),
  );
}
