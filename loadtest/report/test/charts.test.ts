import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Chart, type View, sections } from '../src/charts';
import type { Results } from '../src/results';
import { ALL } from '../src/selection';
import { dataGroup, durations, group, run, sample } from './sample';

const NODE = { cpu: 0.5, worker_cpu: 0.4, resident_bytes: 1, packets_in: 0, packets_out: 0, pipe_packets_in: 0, pipe_packets_out: 0, drops: 0 };

const RUN = run([
  sample(1, { groups: [group(0, { streams: 1, delay: durations(10, 30) })], nodes: [NODE, NODE] }),
  sample(2, {
    groups: [group(0, { streams: 1, delay: durations(12, 20) }), group(1, { streams: 1, delay: durations(80, 90) })],
    nodes: [NODE, null],
  }),
]);

function chart(id: string, runs: Results[], view: Partial<View> = {}): Chart {
  const charts = sections(runs, { selection: ALL, percentile: 'p99_ms', ...view }).flatMap(({ charts }) => charts);
  const chart = charts.find((chart) => chart.id === id);
  assert.ok(chart, `there is no chart ${id}`);
  return chart;
}

function lines(chart: Chart): Record<string, (number | null)[]> {
  return Object.fromEntries(chart.tables.flatMap((table) => table.lines).map(({ label, values }) => [label, values]));
}

test('the delay of one run has a line for each group, with gaps where nobody was', () => {
  assert.deepEqual(lines(chart('video-delay', [RUN])), { 'viewer @ eu-1': [30, 20], 'viewer @ us-1': [null, 90] });
  assert.deepEqual(lines(chart('video-delay', [RUN], { percentile: 'p50_ms' })), { 'viewer @ eu-1': [10, 12], 'viewer @ us-1': [null, 80] });
});

test('a single chosen group shows all its percentiles', () => {
  const view = { selection: 'group:viewer @ eu-1' };
  assert.deepEqual(lines(chart('video-delay', [RUN], view)), { p99: [30, 20], p90: [30, 20], p50: [10, 12] });
});

test('a comparison shows the worst of the chosen groups of each run', () => {
  assert.deepEqual(lines(chart('video-delay', [RUN, RUN])), { 'A p99': [30, 90], 'B p99': [30, 90] });
  assert.deepEqual(lines(chart('video-delay', [RUN, RUN], { selection: 'region:eu' })), { 'A p99': [30, 20], 'B p99': [30, 20] });
});

test('runs differ in colour, their measures in dashes', () => {
  const { tables } = chart('video-loss', [RUN, RUN]);
  assert.deepEqual(tables.map((table) => table.lines.map(({ color, dashed }) => [color, dashed])), [
    [[0, false], [0, true]],
    [[1, false], [1, true]],
  ]);
});

test('a node that does not answer leaves a gap, and out of a sum', () => {
  assert.deepEqual(lines(chart('node-cpu', [RUN])), { 'eu-1': [0.5, 0.5], 'us-1': [0.5, null] });
  assert.deepEqual(lines(chart('node-cpu', [RUN, RUN])), { 'A nodes': [1, 0.5], 'B nodes': [1, 0.5] });
});

test('what nobody received has no chart', () => {
  const ids = sections([RUN], { selection: ALL, percentile: 'p99_ms' }).flatMap(({ charts }) => charts.map(({ id }) => id));
  assert.equal(ids.includes('audio-delay'), false);
  assert.equal(ids.includes('data-delay'), false);
  assert.equal(ids.includes('video-delay'), true);
});

test('an objective is drawn if all runs have the same', () => {
  const limited = (limit: number) => run(RUN.samples, { slo: [{ name: 'delay_p99', limit, measured: null, unit: 'ms', met: true }] });
  assert.equal(chart('video-delay', [limited(100), limited(100)]).limit, 100);
  assert.equal(chart('video-delay', [limited(100), limited(200)]).limit, undefined);
  assert.equal(chart('video-delay', [limited(100)], { percentile: 'p50_ms' }).limit, undefined);
});

test('data channels have charts of their own', () => {
  const data = { channels: 2, messages: 20, expected: 40, lost: 4, violations: 3, delay: durations(10, 30) };
  const chatting = run([sample(1, { groups: [dataGroup(0, data, { channels: 1, messages: 10 })] })]);
  assert.deepEqual(lines(chart('data-messages', [chatting])), { received: [20], sent: [10] });
  assert.deepEqual(lines(chart('data-loss', [chatting])), { lost: [10] });
  assert.deepEqual(lines(chart('data-violations', [chatting])), { violations: [3] });
  assert.deepEqual(lines(chart('data-delay', [chatting], { selection: 'region:eu' })), { p99: [30], p90: [30], p50: [10] });
});
