// A job as it changes: its events and its progress, as they are streamed. While the stream is broken the job is asked for itself, and so
// is one that waits, since no event tells of its place in the line.

import { get, stream } from "../api.js";
import { isOver } from "../actions.js";

const LOOK_MILLISECONDS = 2000;
const GATHER_MILLISECONDS = 150;

// `onJob(job)` is told each time; `onEvent(event)` of every event, from the first on. Resolves once all is told.
export async function follow(job, { onJob, onEvent, signal }) {
  let [asked, isTold, isStreamed] = [null, false, false];
  const tell = (now) => signal.aborted || onJob((job = now));
  const look = async () => {
    const now = await get(`/jobs/${job.id}`, { signal }).catch(() => null); // a stream that broke says so, and this is asked again
    if (now) tell(now);
  };
  const soon = () => (asked ??= setTimeout(() => ((asked = null), look()), GATHER_MILLISECONDS));
  const take = ({ event, data }) => {
    if (event === "progress") tell({ ...job, progress: JSON.parse(data) });
    else if (event !== "end") (onEvent(JSON.parse(data)), soon());
  };
  const looking = (async () => {
    while (!isTold && !signal.aborted) {
      await pause(LOOK_MILLISECONDS, signal);
      const isDue = !isStreamed || job.state === "queued";
      if (isDue && !document.hidden && !isTold && !signal.aborted) await look();
    }
  })();
  const onState = (state) => (isStreamed = state === "open");
  await stream(`/jobs/${job.id}/events/stream?progress=true`, take, signal, { onState });
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
