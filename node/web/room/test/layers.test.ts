import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { LayerRequests, layerFor, layerName } from '../src/layers';

beforeEach(() => mock.timers.enable({ apis: ['setTimeout'] }));
afterEach(() => mock.timers.reset());

test('a tile gets the smallest layer that fills it', () => {
  const layers = (count: number) => [160, 400, 401, 800, 801, 3_000].map((width) => layerFor('auto', count, width));
  assert.deepEqual(layers(3), [0, 0, 1, 1, 2, 2]);
  assert.deepEqual(layers(2), [0, 0, 0, 0, 1, 1]);
  assert.deepEqual(layers(1), [0, 0, 0, 0, 0, 0]);
});

test('what is chosen is had, whatever the tile', () => {
  const chosen = (count: number) => (['high', 'medium', 'low'] as const).map((choice) => layerFor(choice, count, 500));
  assert.deepEqual(chosen(3), [2, 1, 0]);
  assert.deepEqual(chosen(2), [1, 0, 0]);
  assert.deepEqual([0, 1, 2].map((layer) => layerName(layer, 3)), ['low', 'medium', 'high']);
});

/** What the server is asked for. */
function requests() {
  const asked: [string, number][] = [];
  return { asked, requests: new LayerRequests((id, layer) => asked.push([id, layer])) };
}

test('a new consumer is told of at once, and changes a moment later', () => {
  const { asked, requests: subject } = requests();
  subject.want(new Map([['a', 2]]));
  subject.want(new Map([['a', 1], ['b', 1]]));
  subject.want(new Map([['a', 0], ['b', 1]]));
  assert.deepEqual(asked, [['a', 2], ['b', 1]]);
  mock.timers.tick(300);
  assert.deepEqual(asked.splice(2), [['a', 0]]);
  subject.want(new Map([['a', 0]]));
  mock.timers.tick(300);
  assert.equal(asked.length, 2, 'the same is not asked for again');
});

test('a consumer that comes again is new', () => {
  const { asked, requests: subject } = requests();
  for (const wanted of [[['a', 1]], [], [['a', 1]]] as [string, number][][]) subject.want(new Map(wanted));
  assert.deepEqual(asked, [['a', 1], ['a', 1]]);
  subject.close();
  mock.timers.tick(300);
  assert.equal(asked.length, 2);
});
