// Workers, slot by slot, with what their operator may wish of them.

import { get, post } from "../api.js";
import { fill, h } from "../dom.js";
import { ago } from "../format.js";
import { say } from "../notes.js";
import { poll } from "../poll.js";
import { runningNames, slotBoxes } from "../workers/slots.js";

const SECONDS = 3;

export async function show(page, params, signal) {
  document.title = "Workers – Finebits";
  const body = h("div", { class: "stack" });
  fill(page, h("h1", {}, "Workers"), body);
  const session = await get("/session", { signal });
  const isAdmin = session.scopes.includes("admin");
  const look = async () => {
    const [{ data }, names] = await Promise.all([get("/workers", { signal }), runningNames(signal)]);
    if (!body.contains(document.activeElement)) fill(body, data.length ? data.map((worker) => card(worker, names, isAdmin, look)) : none());
  };
  await poll(SECONDS, look, signal);
}

const none = () => h("p", { class: "card empty" }, "No worker has reported within a week.");

function card(worker, names, isAdmin, look) {
  const title = h("div", { class: "row" }, h("h2", {}, worker.name), h("span", { class: "state", "data-state": worker.status }, worker.status));
  return h(
    "section",
    { class: "card", "aria-label": `Worker ${worker.name}` },
    h("div", { class: "head" }, title, isAdmin && worker.status !== "stopped" ? drainButton(worker, look) : null),
    slotBoxes(worker.slots, names),
    h("dl", { class: "pairs small" }, facts(worker).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
  );
}

function facts(worker) {
  return [
    ["Host", `${worker.host}, process ${worker.pid}`],
    ["Version", worker.software],
    ["Queues", worker.queues.join(", ")],
    ["Beside the usual", worker.extras === null ? "not said" : worker.extras.join(", ") || "nothing"],
    ["Sharing", worker.sharing ? "jobs may share its GPUs" : "one job a GPU"],
    ...(worker.reserved_for ? [["Kept free for", worker.reserved_for]] : []),
    ["Last heard", worker.stopped_at ? `stopped ${ago(worker.stopped_at)}` : ago(worker.heartbeat_at)],
  ];
}

function drainButton(worker, look) {
  const verb = worker.draining ? "undrain" : "drain";
  const wish = async () => {
    await post(`/workers/${encodeURIComponent(worker.name)}/${verb}`).catch((problem) => say(problem.message));
    button.blur();
    await look();
  };
  const title = worker.draining ? "It takes jobs again" : "It takes no new jobs; those that run go on to their end";
  const button = h("button", { type: "button", class: "small", title, onclick: wish }, worker.draining ? "Undrain" : "Drain");
  return button;
}
