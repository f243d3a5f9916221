// Server-sent events that outlive a broken connection: who was cut off asks again behind the last event that came. A tab that nobody
// looks at lets go of its connection, of which a browser has six to a service, and goes on when it is seen.

import { OWN, problemOf } from "./problem.js";
import { untilSeen, WhileSeen } from "./seen.js";

const FIRST_WAIT = 1000;
const LONGEST_WAIT = 15000;
const HIDDEN_WAIT = 20000;

// Calls `onEvent({id, event, data})` for each, `data` as text, until the service says that there is no more (204, or an event
// "end"), or `signal` aborts. `onState` is told "open", "reconnecting", "asleep" and "ended"; the page says the second by itself.
// Resolves at the end; rejects with a Problem where the service refuses (4xx).
export async function stream(path, onEvent, signal, { onState = () => {}, lastId = "" } = {}) {
  const told = { id: lastId, retry: FIRST_WAIT, ended: false };
  const line = new Line();
  try {
    for (let failures = 0; !signal.aborted && !told.ended; ) {
      await untilSeen(signal);
      const began = told.id;
      const seen = new WhileSeen(signal, HIDDEN_WAIT);
      try {
        const response = await opened(path, told.id, seen.signal);
        if (response === null) break;
        failures = 0;
        line.is("open");
        onState("open");
        await read(response.body, told, onEvent);
      } catch (error) {
        if (signal.aborted || (error.status >= 400 && error.status < 500 && error.status !== 429)) throw error;
      } finally {
        seen.close();
      }
      if (told.ended || signal.aborted) break;
      if (seen.isAsleep) {
        onState("asleep");
        continue;
      }
      failures = told.id === began ? failures + 1 : 1;
      line.is("reconnecting");
      onState("reconnecting");
      await pause(Math.min(told.retry * 2 ** (failures - 1), LONGEST_WAIT), signal);
    }
    onState("ended");
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    line.is("ended");
  }
}

async function opened(path, lastId, signal) {
  const headers = { Accept: "text/event-stream", ...OWN };
  if (lastId !== "") headers["Last-Event-ID"] = lastId;
  const response = await fetch(path, { signal, headers, credentials: "same-origin", cache: "no-store" });
  if (response.status === 204) return null;
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function read(body, told, onEvent) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split(/\r\n\r\n|\n\n|\r\r/);
    rest = blocks.pop();
    for (const block of blocks) {
      take(block, told, onEvent);
      if (told.ended) return reader.cancel();
    }
  }
}

function take(block, told, onEvent) {
  const found = { id: told.id, event: "message", data: [] };
  for (const line of block.split(/\r\n|\n|\r/)) {
    const colon = line.indexOf(":");
    if (colon === 0) continue;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "id") found.id = value;
    else if (name === "event") found.event = value;
    else if (name === "data") found.data.push(value);
    else if (name === "retry" && /^\d+$/.test(value)) told.retry = Number(value);
  }
  if (!found.data.length) return;
  told.id = found.id;
  told.ended = found.event === "end";
  onEvent({ ...found, data: found.data.join("\n") });
}

const pause = (milliseconds, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

// What the page says by itself: app.js shows it while any of its connections is broken.
class Line {
  is(state) {
    dispatchEvent(new CustomEvent("finebits:link", { detail: { who: this, isBroken: state === "reconnecting" } }));
  }
}
