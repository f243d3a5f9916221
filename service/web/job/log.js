// What the training process writes, as it writes it.

import { get, stream } from "../api.js";
import { fill, h } from "../dom.js";

const MOST_CHARACTERS = 400_000; // more is not kept in the page; the file has it all

export async function side(place, job, { query, signal }) {
  if (!job.attempt) fill(place, h("p", { class: "empty" }, "No attempt has begun yet."));
  while (!job.attempt && !signal.aborted) {
    await new Promise((resolve) => setTimeout(resolve, 2000));
    job = await get(`/jobs/${job.id}`, { signal }).catch(() => job);
  }
  if (signal.aborted) return {};
  const attempt = Number(query.get("attempt")) || job.attempt;
  const pre = h("pre", {
    class: "log",
    tabindex: "0",
    role: "log",
    "aria-label": `Log of attempt ${attempt}`,
    "aria-live": "off",
  });
  const end = h("input", { type: "checkbox", id: "follow", checked: true });
  fill(
    place,
    h(
      "p",
      { class: "row" },
      h("label", { class: "row", for: "follow" }, end, "Stay at the end"),
      attempts(job, attempt),
      h("a", { href: `/jobs/${job.id}/logs?attempt=${attempt}`, download: `${job.id}-${attempt}.log` }, "The whole file"),
    ),
    pre,
  );
  const take = ({ event, data }) => {
    if (event === "end") return;
    const told = JSON.parse(data);
    pre.append(told.text);
    while (pre.textContent.length > MOST_CHARACTERS && pre.childNodes.length > 1) pre.firstChild.remove();
    if (end.checked) pre.scrollTop = pre.scrollHeight;
  };
  stream(`/jobs/${job.id}/logs/stream?attempt=${attempt}`, take, signal).catch((problem) => pre.append(problem.message));
  return {};
}

function attempts(job, present) {
  if (job.attempt < 2) return null;
  const link = (number) =>
    h(
      "a",
      { href: `#/jobs/${job.id}?tab=log&attempt=${number}`, "aria-current": number === present ? "true" : null },
      `attempt ${number}`,
    );
  return Array.from({ length: job.attempt }, (_, index) => link(index + 1));
}
