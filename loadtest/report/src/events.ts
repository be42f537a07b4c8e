/** What happened in the runs, each thing once. */
import type { Results } from './results';

/** An event, with the indices of the runs in which it happened at that time. */
export interface Mark {
  number: number;
  at: number;
  what: string;
  runs: number[];
}

/** Events of all runs in order of time. The same event within the same second of several runs is one. */
export function marks(runs: Results[]): Mark[] {
  const found = new Map<string, Omit<Mark, 'number'>>();
  runs.forEach((run, index) => {
    for (const { at_s, what } of run.events) {
      const key = `${Math.round(at_s)} ${what}`;
      const mark = found.get(key) ?? { at: at_s, what, runs: [] };
      if (!mark.runs.includes(index)) mark.runs.push(index);
      found.set(key, mark);
    }
  });
  return [...found.values()].sort((a, b) => a.at - b.at).map((mark, index) => ({ number: index + 1, ...mark }));
}

/** Seconds of ramp, if all runs have the same. */
export function rampOf(runs: Results[]): number {
  const ramps = new Set(runs.map((run) => run.scenario.ramp_ms / 1000));
  return ramps.size === 1 ? ([...ramps][0] ?? 0) : 0;
}
