// What the master remembers of the last hour, brought up to date with what came since.
import { get } from "./api.js";

const kMostSamples = 1800;

export class Series {
  constructor(server) {
    this.server = server;
    this.columns = { t: [] };
    this.next = undefined;
  }

  async update() {
    const fresh = await get("history", { after: this.next, server: this.server });
    const { next, period_ms: period, ...columns } = fresh;
    // A master that started anew counts from one again.
    const restarted = this.next === undefined || next < this.next;
    this.period = period;
    for (const [name, values] of Object.entries(columns)) {
      const before = restarted ? [] : this.columns[name] || [];
      this.columns[name] = [...before, ...values].slice(-kMostSamples);
    }
    this.next = next;
  }

  // Columns of the last `seconds`.
  last(seconds) {
    const from = Math.max(0, this.columns.t.length - Math.round((seconds * 1000) / (this.period || 2000)));
    return Object.fromEntries(Object.entries(this.columns).map(([name, values]) => [name, values.slice(from)]));
  }
}

export const kRanges = [[300, "5 min"], [900, "15 min"], [3600, "1 h"]];
