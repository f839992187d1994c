/** Power by device over the last minutes, kept in the page: columns as uPlot wants them. */

import type { Window } from "./view";

export const WINDOWS_SECONDS = [60, 300, 900] as const;
const KEEP_SECONDS = 900;
/** A pause of this long between two pushes is drawn as a gap, not as a line. */
const GAP_SECONDS = 5;
/** At most this many points: the agent pushes up to five a second. */
const KEEP_POINTS = 5000;

export class History {
  readonly unixSeconds: number[] = [];
  readonly watts = new Map<string, (number | null)[]>();
  /** Grows with each change: what a chart looks at to redraw. */
  version = 0;

  add(view: Window): void {
    const last = this.unixSeconds[this.unixSeconds.length - 1];
    if (last !== undefined && view.unix_seconds < last) this.clear(); // the agent's clock was set back
    if (view.unix_seconds === last) return;
    if (last !== undefined && view.unix_seconds - last > GAP_SECONDS) this.push(last + 0.001, new Map());
    const now = new Map(view.devices.map((each) => [each.device, each.stale ? null : each.power_watts]));
    this.push(view.unix_seconds, now);
    this.forget(view.unix_seconds - KEEP_SECONDS);
    this.version += 1;
  }

  private clear(): void {
    this.unixSeconds.length = 0;
    this.watts.clear();
  }

  private push(unixSeconds: number, watts: Map<string, number | null>): void {
    for (const device of watts.keys()) {
      if (!this.watts.has(device)) this.watts.set(device, this.unixSeconds.map(() => null));
    }
    this.unixSeconds.push(unixSeconds);
    for (const [device, column] of this.watts) column.push(watts.get(device) ?? null);
  }

  private forget(before: number): void {
    let gone = this.unixSeconds.findIndex((each) => each >= before);
    gone = Math.max(gone, this.unixSeconds.length - KEEP_POINTS);
    if (gone < 64) return; // by the handful: a shift of every column at each push costs more
    this.unixSeconds.splice(0, gone);
    for (const column of this.watts.values()) column.splice(0, gone);
  }
}
