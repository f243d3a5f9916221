// What is asked again and again while it is looked at: not in a hidden tab, later and later while the service is away.

import { untilSeen } from "./seen.js";

const LONGEST_WAIT = 30000;

// Calls `look()` now, then every `seconds` until `signal` aborts. The first time its error is the caller's; later ones are said
// by the page, and the next look is tried all the same.
export async function poll(seconds, look, signal) {
  await look();
  next(seconds, look, signal, 0);
}

function next(seconds, look, signal, failures) {
  const wait = Math.min(seconds * 1000 * 2 ** failures, Math.max(LONGEST_WAIT, seconds * 1000));
  const timer = setTimeout(async () => {
    await untilSeen(signal);
    if (signal.aborted) return;
    const isWell = await look().then(
      () => true,
      (error) => error.name === "AbortError" || ((error.status ?? 0) !== 0 && error.status < 500),
    );
    if (signal.aborted) return;
    tell(look, !isWell);
    next(seconds, look, signal, isWell ? 0 : failures + 1);
  }, wait);
  signal.addEventListener("abort", () => (clearTimeout(timer), tell(look, false)), { once: true });
}

const tell = (who, isBroken) => dispatchEvent(new CustomEvent("finebits:link", { detail: { who, isBroken } }));
