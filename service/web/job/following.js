// A job as it changes: its events as they are streamed, itself every two seconds while it is not over.

import { get, stream } from "../api.js";
import { isOver } from "../actions.js";

const LOOK_MILLISECONDS = 2000;
const GATHER_MILLISECONDS = 150;

// `onJob(job)` is told each time; `onEvent(event)` of every event, from the first on. Resolves once all is told.
export async function follow(id, { onJob, onEvent, signal }) {
  let [asked, isTold] = [null, false];
  const look = async () => {
    const job = await get(`/jobs/${id}`, { signal }).catch(() => null); // a stream that broke says so, and this is asked again
    if (job && !signal.aborted) onJob(job);
    return job;
  };
  const soon = () => (asked ??= setTimeout(() => ((asked = null), look()), GATHER_MILLISECONDS));
  const looking = (async () => {
    while (!isTold && !signal.aborted) {
      await pause(LOOK_MILLISECONDS, signal);
      if (!document.hidden && !isTold && !signal.aborted) await look();
    }
  })();
  await stream(
    `/jobs/${id}/events/stream`,
    ({ event, data }) => (event === "end" ? null : (onEvent(JSON.parse(data)), soon())),
    signal,
  );
  isTold = true;
  clearTimeout(asked);
  await look();
  return looking;
}

export { isOver };

const pause = (milliseconds, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
