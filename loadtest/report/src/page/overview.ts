/** Objectives and key figures. */
import { h } from '@sluice/web-kit/ui/dom';
import { letter } from '../charts';
import { NOTHING, difference, digits, format, plural } from '../format';
import type { Data, Figure, Objective, Results } from '../results';
import { type Cell, figures, table, words } from './table';

const OBJECTIVES: Record<string, string> = {
  join_p99: 'Join time, p99',
  delay_p99: 'One-way delay, p99',
  residual_loss: 'Loss after repair',
  freezes_per_hour: 'Freezes > 500 ms per hour of video',
  data_delay_p99: 'Data delay, p99',
  data_loss: 'Data loss',
  data_violations: 'Data violations',
  failed_joins: 'Failed joins',
};

/** Objectives, measured in each run. */
export function objectives(runs: Results[]): HTMLElement | undefined {
  const names = [...new Set(runs.flatMap(({ slo }) => slo.map(({ name }) => name)))];
  if (names.length === 0) return undefined;
  const title = (index: number, what: string) => (runs.length > 1 ? `${letter(index)}: ${what}` : what);
  const columns = runs.flatMap((_, index) => [figures(title(index, 'measured')), figures('at most'), words('')]);
  const row = (name: string): Cell[] => [
    OBJECTIVES[name] ?? name,
    ...runs.flatMap(({ slo }) => objective(slo.find((objective) => objective.name === name))),
  ];
  return table('Service level objectives', [words('Objective'), ...columns], names.map(row));
}

function objective(objective: Objective | undefined): Cell[] {
  if (!objective) return [NOTHING, NOTHING, ''];
  const { measured, limit, met } = objective;
  const unit = objective.unit === '1/h' ? '/h' : objective.unit;
  const worded = (value: number | null) => (value === null ? NOTHING : `${digits(value)} ${unit}`.trimEnd());
  return [worded(measured), worded(limit), h('span', { class: met ? 'badge good' : 'badge bad' }, met ? 'met' : 'not met')];
}

/** The figures of one run that matter most, as tiles. */
export function tiles({ runs: [run], figures }: Data): HTMLElement {
  const value = (key: string) => {
    const figure = figures.find((figure) => figure.key === key);
    return figure ? format(figure.unit, figure.values[0]) : NOTHING;
  };
  // What was not measured has no tile: a meeting without video is not half a report.
  const tile = (label: string, key: string, more: string) =>
    value(key) !== NOTHING && h('div', { class: 'tile' }, h('dt', {}, label), h('dd', {}, value(key)), h('dd', { class: 'more' }, more));
  const joins = run?.joins;
  return h(
    'dl',
    { class: 'tiles' },
    tile('Users at once', 'users', `of ${plural(run?.scenario.users ?? 0, 'user')} wanted`),
    tile('Join time, p99', 'join_p99', `p50 ${value('join_p50')}`),
    tile('Failed joins', 'failed_joins', `of ${plural(joins?.attempted ?? 0, 'attempt')}`),
    tile('Audio delay, p99', 'audio_delay_p99', `worst group; p50 ${value('audio_delay_p50')}`),
    tile('Video delay, p99', 'video_delay_p99', `worst group; p50 ${value('video_delay_p50')}`),
    tile('Audio loss', 'audio_residual_loss', `after repair; ${value('audio_loss')} before`),
    tile('Video loss', 'video_residual_loss', `after repair; ${value('video_loss')} before`),
    tile('Freezes', 'freezes_per_hour', '> 500 ms, per hour of video'),
    tile('Data delay, p99', 'data_delay_p99', `worst group; p50 ${value('data_delay_p50')}`),
    tile('Data loss', 'data_loss', `of messages; ${value('data_violations')} violations`),
    tile('Received', 'received', 'by all users together'),
    tile('Packets per CPU-second', 'packets_per_cpu_second', `nodes’ CPU ${value('nodes_cpu')}`),
  );
}

/** All key figures of several runs, with the differences to the first. */
export function comparison({ runs, figures: rows }: Data): HTMLElement {
  const columns = runs.flatMap((_, index) => [figures(letter(index)), ...(index > 0 ? [figures('change')] : [])]);
  const row = (figure: Figure): Cell[] => [
    figure.name,
    ...figure.values.flatMap((value, index) => [
      format(figure.unit, value),
      ...(index > 0 ? [change(figure, figure.values[0] ?? null, value)] : []),
    ]),
  ];
  return table('Key figures', [words('Figure'), ...columns], rows.map(row));
}

/** Differences of less than this, in percent, are none. */
const NOISE = 0.05;

function change({ better }: Figure, before: number | null, after: number | null): Cell {
  const percent = difference(before, after);
  if (percent === undefined) return '';
  if (Math.abs(percent) < NOISE) return '=';
  const text = `${percent > 0 ? '+' : '−'}${Math.abs(percent).toFixed(1)}\u00a0%`;
  if (better === 'neither') return text;
  const improved = percent > 0 === (better === 'higher');
  return h('span', { class: `change ${improved ? 'good' : 'bad'}` }, `${text} ${improved ? 'better' : 'worse'}`);
}
