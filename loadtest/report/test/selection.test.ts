import assert from 'node:assert/strict';
import { test } from 'node:test';
import { marks, rampOf } from '../src/events';
import { ALL, choices, selected } from '../src/selection';
import { run } from './sample';

test('regions and groups can be chosen, each once for all runs', () => {
  const { regions, groups } = choices([run([]), run([])]);
  assert.deepEqual(regions.map(({ value }) => value), ['region:eu', 'region:us']);
  assert.deepEqual(groups.map(({ value }) => value), ['group:viewer @ eu-1', 'group:viewer @ us-1']);
});

test('a choice of one is none', () => {
  const lone = run([], { groups: [{ users: 'viewer', node: 'eu-1', region: 'eu' }] });
  assert.deepEqual(choices([lone]), { regions: [], groups: [] });
});

test('what is chosen are indices of groups', () => {
  assert.deepEqual([ALL, 'region:us', 'group:viewer @ eu-1', 'region:none'].map((each) => selected(run([]), each)), [[0, 1], [1], [0], []]);
});

test('what happened in several runs at the same second is one event', () => {
  const a = run([], { events: [{ at_s: 30.2, what: 'cut' }, { at_s: 50, what: 'heal' }] });
  const b = run([], { events: [{ at_s: 29.9, what: 'cut' }, { at_s: 40, what: 'heal' }] });
  assert.deepEqual(marks([a, b]).map(({ number, what, runs }) => [number, what, runs]), [
    [1, 'cut', [0, 1]],
    [2, 'heal', [1]],
    [3, 'heal', [0]],
  ]);
});

test('a ramp is shaded if all runs have the same', () => {
  const { scenario } = run([]);
  assert.equal(rampOf([run([]), run([])]), 1);
  assert.equal(rampOf([run([]), run([], { scenario: { ...scenario, ramp_ms: 5000 } })]), 0);
});
