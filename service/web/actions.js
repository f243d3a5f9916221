// What can be done to a job in the state that it is in, as buttons.

import { post, remove } from "./api.js";
import { h } from "./dom.js";
import { say } from "./notes.js";

const ENDED = ["succeeded", "failed", "cancelled"];

// verb -> [its button, what is said when it was done, when it may be asked for]
const VERBS = {
  pause: ["Pause", "It will pause after its next checkpoint.", (job) => ["queued", "running"].includes(job.state) && !job.pause_requested],
  resume: ["Resume", "It is queued again.", (job) => job.state === "paused" || job.pause_requested],
  retry: ["Retry", "It is queued again; what was done stays done.", (job) => ["failed", "cancelled"].includes(job.state)],
  cancel: ["Cancel", "It will stop at its next step.", (job) => !ENDED.includes(job.state) && !job.cancel_requested],
};

export const isOver = (job) => ENDED.includes(job.state);

// The buttons for `job`; `onChange(job)` is given the job as the service then has it, or null once it is deleted.
export function actionsOf(job, onChange) {
  const buttons = Object.entries(VERBS)
    .filter(([, [, , isPossible]]) => isPossible(job))
    .map(([verb, [label, done]]) => button(label, verb === "cancel", () => act(job, verb, done, onChange)));
  if (isOver(job)) buttons.push(button("Delete", true, () => forget(job, onChange)));
  return h("div", { class: "row", role: "group", "aria-label": "What to do with the job" }, buttons);
}

function button(label, isDangerous, act) {
  const made = h("button", { type: "button", class: isDangerous ? "small danger" : "small" }, label);
  made.addEventListener("click", async () => {
    made.disabled = true;
    await act().catch((problem) => say(problem.message));
    made.disabled = false;
  });
  return made;
}

async function act(job, verb, done, onChange) {
  const changed = await post(`/jobs/${job.id}/${verb}`);
  say(changed.state === "cancelled" ? "It is cancelled." : changed.state === "paused" ? "It is paused." : done);
  onChange(changed);
}

async function forget(job, onChange) {
  if (!confirm(`Delete ${job.name ?? job.id}, with its checkpoints and all that it made?`)) return;
  await remove(`/jobs/${job.id}`);
  say("It is deleted.");
  onChange(null);
}
