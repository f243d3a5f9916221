// Which jobs are compared: those that are, to take away, and a field that finds others.

import { get } from "../api.js";
import { h } from "../dom.js";

export async function picker(ids, choose, signal) {
  const { data } = await get("/jobs", { query: { limit: 100 }, signal });
  const options = data
    .filter((job) => !ids.includes(job.id))
    .map((job) => h("option", { value: job.id }, [job.name, job.state].filter(Boolean).join(", ")));
  const field = h("input", {
    id: "another",
    list: "some-jobs",
    placeholder: "a name, or job-…",
    autocomplete: "off",
    spellcheck: "false",
    "data-filter": true,
  });
  const add = async (event) => {
    event.preventDefault();
    const said = field.value.trim();
    if (said) choose([...ids, data.some((job) => job.id === said) ? said : ((await called(said, signal)) ?? said)]);
  };
  const known = new Map(data.map((job) => [job.id, job.name ?? job.id]));
  const chip = (id) =>
    h(
      "button",
      {
        type: "button",
        class: "small chip",
        "aria-label": `Take ${known.get(id) ?? id} away`,
        onclick: () => choose(ids.filter((one) => one !== id)),
      },
      known.get(id) ?? id,
      h("span", { "aria-hidden": "true" }, " ×"),
    );
  return h(
    "form",
    { class: "row picker", onsubmit: add },
    ids.map(chip),
    h("label", { for: "another", class: "visually-hidden" }, "Another job"),
    field,
    h("datalist", { id: "some-jobs" }, options),
    h("button", {}, "Add"),
  );
}

// The newest job of that very name.
async function called(name, signal) {
  const found = await get("/jobs", { query: { name, limit: 100 }, signal }).catch(() => ({ data: [] }));
  return found.data.find((job) => job.name === name)?.id;
}
