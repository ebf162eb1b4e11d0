// What the page saw, in memory only.

const SECONDS = 15 * 60;
// Longer without a snapshot is a gap in the lines.
const GAP = 20;

export class History {
  #series = new Map();
  #times = [];

  // Values by key at one moment, in Unix seconds; a series without one has a gap.
  add(time, values) {
    const last = this.#times[this.#times.length - 1];
    if (time <= last) return;
    if (time - last > GAP) this.#push(last + 1, new Map());
    this.#push(time, values);
    const old = this.#times.findIndex((at) => at >= time - SECONDS);
    this.#times.splice(0, old);
    for (const [key, series] of this.#series) {
      series.splice(0, old);
      if (series.every((value) => value === null)) this.#series.delete(key);
    }
  }

  #push(time, values) {
    for (const key of values.keys()) {
      if (!this.#series.has(key)) this.#series.set(key, new Array(this.#times.length).fill(null));
    }
    this.#times.push(time);
    for (const [key, series] of this.#series) series.push(values.get(key) ?? null);
  }

  get times() {
    return this.#times;
  }

  get(key) {
    return this.#series.get(key) || new Array(this.#times.length).fill(null);
  }
}
