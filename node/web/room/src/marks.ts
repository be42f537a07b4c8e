/**
 * When things happened: User Timing marks, for the developer tools, the end-to-end tests and the join benchmark.
 *
 * Each join starts anew; a mark is set once per join.
 */
const NAMES = ['ws-open', 'joined', 'recv-connected', 'first-frame'] as const;
export type Mark = (typeof NAMES)[number];

const times = new Map<Mark, number>();

export function startJoin(): void {
  times.clear();
  for (const name of NAMES) performance.clearMarks(`sluice:${name}`);
}

/** Marks that something happened: now, or at `time`. */
export function mark(name: Mark, time = performance.now()): void {
  if (times.has(name)) return;
  times.set(name, time);
  performance.mark(`sluice:${name}`, { startTime: time });
}

/** Milliseconds since the page's start, by mark. */
export function marks(): Partial<Record<Mark, number>> {
  return Object.fromEntries(times);
}
