/** Figures as people read them, in the same words as the program's summary. */

export type Unit =
  | 'count'
  | 'ms'
  | 'percent'
  | 'bits_per_second'
  | 'per_hour'
  | 'per_second'
  | 'cpus'
  | 'bytes';

/** Where there was nothing to measure. */
export const NOTHING = '–';

const SUFFIX: Record<Unit, string> = {
  count: '',
  ms: 'ms',
  percent: '%',
  bits_per_second: 'bit/s',
  per_hour: '/h',
  per_second: '/s',
  cpus: '',
  bytes: 'B',
};

const PREFIXES = ['', 'k', 'M', 'G'];

/** A scale for all values up to a greatest one: what to divide by, and the unit of the quotient. */
export interface Scale {
  divisor: number;
  suffix: string;
}

export function scaleOf(unit: Unit, greatest: number): Scale {
  if (unit !== 'bits_per_second' && unit !== 'bytes') return { divisor: 1, suffix: SUFFIX[unit] };
  let power = 0;
  while (power < PREFIXES.length - 1 && greatest / 1000 ** power >= 999.5) power++;
  return { divisor: 1000 ** power, suffix: (PREFIXES[power] ?? '') + SUFFIX[unit] };
}

/** A value with its unit: three significant digits, or all of a greater integer. */
export function format(unit: Unit, value: number | null | undefined): string {
  if (value === null || value === undefined) return NOTHING;
  if (unit === 'count') return thousands(value);
  if (unit === 'percent' && value > 0 && value < 0.005) return '<0.01 %';
  const { divisor, suffix } = scaleOf(unit, Math.abs(value));
  return `${digits(value / divisor)} ${suffix}`.trimEnd();
}

/** Three significant digits, or all of a greater integer. */
export function digits(value: number): string {
  const size = Math.abs(value);
  if (size === 0) return '0';
  if (size < 9.995) return value.toFixed(2);
  return size < 99.95 ? value.toFixed(1) : thousands(value);
}

/** A difference in percent, with its sign; `undefined` if there is nothing to compare or no such percentage. */
export function difference(before: number | null, after: number | null): number | undefined {
  if (before === null || after === null) return undefined;
  if (before === after) return 0;
  return before === 0 ? undefined : ((after - before) / before) * 100;
}

/** A time in a run: `45 s`, or `2:05` in runs of some minutes. */
export function runTime(seconds: number, runs: number): string {
  if (runs <= 120) return `${Number(seconds.toFixed(1))} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}

/** A length of time: `45 s`, `10 min`. */
export function duration(ms: number): string {
  return ms >= 120_000 && ms % 60_000 === 0 ? `${ms / 60_000} min` : `${Number((ms / 1000).toFixed(1))} s`;
}

export function plural(count: number, what: string): string {
  return `${thousands(count)} ${what}${count === 1 ? '' : 's'}`;
}

function thousands(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}
