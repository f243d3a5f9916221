// What the job made, to download.

import { isOver } from "../actions.js";
import { get } from "../api.js";
import { fill, h } from "../dom.js";
import { ago, bytes } from "../format.js";

const MADE = ["checkpoint_saved", "step_finished", "exported", "files_removed"];
const SEEN = /\.(png|svg)$/;

export async function side(place, job, { signal }) {
  const look = async () => {
    const { data } = await get(`/jobs/${job.id}/artifacts`, { signal });
    if (!signal.aborted) fill(place, data.length ? table(data) : h("p", { class: "empty" }, "It has made no files yet."));
  };
  await look();
  return {
    event: (event) => isOver(job) || (MADE.includes(event.kind) && look().catch(() => null)),
  };
}

function table(files) {
  const row = (file) =>
    h(
      "tr",
      {},
      h(
        "th",
        { scope: "row" },
        h("a", { href: file.url, download: "" }, file.name),
        SEEN.test(file.name) ? h("img", { class: "preview", src: file.url, alt: `Picture ${file.name}`, loading: "lazy" }) : null,
      ),
      h("td", { class: "number nowrap" }, bytes(file.size)),
      h("td", { class: "nowrap quiet" }, ago(file.created_at)),
      h("td", {}, h("code", { class: "small hash", title: file.sha256 }, file.sha256.slice(0, 12))),
    );
  const head = ["file", "size", "made", "SHA-256"].map((name) =>
    h("th", { scope: "col", class: name === "size" ? "number" : null }, name),
  );
  return h(
    "div",
    { class: "card" },
    h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "The job's files" },
      h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, files.map(row))),
    ),
  );
}
