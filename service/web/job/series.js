// A step's training series while they grow: what there is, asked for and thinned, and behind it each point as it is streamed.

import { address, get, stream } from "../api.js";

const POINTS = 1500; // of a series, thinned by the service such that its extremes stay

// `onGrown(names)` is told which series have grown.
export class Series {
  constructor(job, step, signal, onGrown) {
    Object.assign(this, { path: `/jobs/${job.id}/metrics/series`, step: step.name, signal, onGrown });
    this.names = [];
    this.asked = new Map(); // name -> {step, value, looked}: as the service answered, all or the part that is looked at
    this.told = new Map(); // name -> {step, value}: as it was streamed since
    this.isStreamed = false;
  }

  async readNames() {
    const found = await this.ask({});
    this.names = found.data[0]?.names ?? [];
  }

  // All of it thinned, or of `looked`, a part [from, to], as many points again.
  async read(name, looked = null) {
    if (!this.told.has(name)) this.told.set(name, { step: [], value: [] }); // what is told while this is asked for is not lost
    const part = looked ? { from_step: looked[0], to_step: looked[1] } : {};
    const { step, value } = await this.ask({ name, points: POINTS, ...part });
    this.asked.set(name, { step, value, looked });
    if (!looked) this.told.set(name, this.behind(name, step.at(-1)));
  }

  // As it is to be drawn.
  columns(name) {
    const asked = this.asked.get(name);
    if (!asked || asked.looked) return asked ?? { step: [], value: [] };
    const told = this.behind(name, asked.step.at(-1));
    return { step: [...asked.step, ...told.step], value: [...asked.value, ...told.value] };
  }

  whole(name) {
    return this.ask({ name });
  }

  // Until the job is over. Rejects where the service refuses.
  async listen() {
    const last = [...this.asked.values()].map(({ step }) => step.at(-1) ?? 0);
    const from = address(`${this.path}/stream`, { step: this.step, after: last.length ? Math.min(...last) : null });
    const take = ({ event, data }) => event === "end" || this.take(JSON.parse(data).series);
    await stream(from, take, this.signal, { onState: (state) => (this.isStreamed = state === "open") });
  }

  take(series) {
    for (const [name, { step, value }] of Object.entries(series)) {
      if (!this.names.includes(name)) this.names = [...this.names, name].sort();
      const told = this.told.get(name);
      if (!told) continue; // it is not drawn, and will be asked for when it is
      const first = told.step.length ? step.findIndex((at) => at > told.step.at(-1)) : 0;
      if (first >= 0) (told.step.push(...step.slice(first)), told.value.push(...value.slice(first)));
    }
    this.onGrown(Object.keys(series));
  }

  // Whether so much was told that it should be thinned again.
  isLong(name) {
    return !this.asked.get(name)?.looked && this.told.get(name)?.step.length > POINTS;
  }

  behind(name, last = -1) {
    const { step, value } = this.told.get(name);
    const first = step.findIndex((at) => at > last);
    return first < 0 ? { step: [], value: [] } : { step: step.slice(first), value: value.slice(first) };
  }

  ask(query) {
    return get(this.path, { query: { step: this.step, ...query }, signal: this.signal });
  }
}
