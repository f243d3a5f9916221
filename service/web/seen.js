// Whether anybody looks: what a hidden tab asks for is asked for in vain.

// Resolves once the page is looked at, or `signal` aborts.
export function untilSeen(signal) {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    const seen = () => document.hidden || (document.removeEventListener("visibilitychange", seen), resolve());
    document.addEventListener("visibilitychange", seen, { signal });
    signal.addEventListener("abort", resolve, { once: true });
  });
}

// A `signal` that aborts with the one given, and when the page has been hidden for so long; `isAsleep` is then true.
export class WhileSeen {
  constructor(signal, milliseconds) {
    this.sleep = new AbortController();
    this.signal = AbortSignal.any([signal, this.sleep.signal]);
    this.look = () => {
      clearTimeout(this.timer);
      if (document.hidden) this.timer = setTimeout(() => this.sleep.abort(), milliseconds);
    };
    document.addEventListener("visibilitychange", this.look);
    this.look();
  }

  get isAsleep() {
    return this.sleep.signal.aborted;
  }

  close() {
    clearTimeout(this.timer);
    document.removeEventListener("visibilitychange", this.look);
  }
}
