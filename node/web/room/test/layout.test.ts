import assert from 'node:assert/strict';
import { test } from 'node:test';
import { grid, largeTile, spotlight, type Attention } from '../src/layout';

const GAP = 12;

test('every tile is within the area, whatever the count', () => {
  for (const [width, height] of [[1248, 620], [360, 640], [760, 220], [1900, 950]] as const) {
    for (let count = 1; count <= 30; count++) {
      const tile = grid(count, width, height, GAP);
      const where = `${count} tiles in ${width} x ${height}`;
      assert.ok(tile.width > 0 && tile.height > 0, where);
      assert.ok(tile.columns * tile.width + (tile.columns - 1) * GAP <= width, `${where}: too wide`);
      const rows = Math.ceil(count / tile.columns);
      const scrolls = rows * tile.height + (rows - 1) * GAP > height;
      if (scrolls) assert.ok(tile.width < 320, `${where}: scrolls although smaller tiles can be read`);
    }
  }
});

test('one person fills a wide stage with a 16:9 picture', () => {
  const tile = grid(1, 1600, 900, GAP);
  assert.deepEqual([tile.width, tile.height], [1600, 900]);
});

test('two people are side by side on a wide screen and one above the other on a phone', () => {
  assert.equal(grid(2, 1248, 620, GAP).columns, 2);
  assert.equal(grid(2, 370, 640, 8).columns, 1);
});

test('four people on a phone are two by two', () => {
  assert.equal(grid(4, 370, 640, 8).columns, 2);
});

test('a crowd on a phone scrolls with readable tiles', () => {
  const tile = grid(20, 370, 640, 8);
  assert.ok(tile.width >= 150, `${tile.width} px`);
});

test('no area gives no tile, and no error', () => {
  assert.equal(grid(3, 0, 0, GAP).width, 0);
});

test('a large tile and the strip are within the area', () => {
  for (const [width, height] of [[1248, 620], [360, 640], [760, 220], [1900, 950], [0, 0]] as const) {
    for (const others of [1, 2, 9]) {
      const { beside, large, small } = spotlight(others, width, height, GAP);
      const where = `${others} others in ${width} x ${height}`;
      assert.ok(large.width >= 0 && large.height >= 0 && small.width >= 0, where);
      if (width === 0) continue;
      assert.ok((beside ? large.width + GAP + small.width : large.width) <= width, `${where}: too wide`);
      assert.ok((beside ? large.height : large.height + GAP + small.height) <= height, `${where}: too high`);
      assert.ok(large.width * large.height > 2 * small.width * small.height, `${where}: the large tile is large`);
    }
  }
});

test('a large tile that is alone has everything', () => {
  assert.deepEqual(spotlight(0, 1000, 500, GAP).large, { width: 1000, height: 500 });
});

test('what is large is what was asked for, else a screen, else who speaks', () => {
  const attention: Attention = { mode: 'grid', pinned: undefined, screens: [], speaker: 'b', others: ['a', 'b', 'c'] };
  const large = (change: Partial<Attention>) => largeTile({ ...attention, ...change });
  assert.equal(large({}), undefined, 'in a grid all are alike');
  assert.equal(large({ mode: 'speaker' }), 'b');
  assert.equal(large({ mode: 'speaker', speaker: 'gone' }), 'a');
  assert.equal(large({ mode: 'speaker', others: [] }), undefined);
  assert.equal(large({ screens: ['a', 'c'] }), 'c', 'the latest screen, in a grid too');
  assert.equal(large({ screens: ['c'], pinned: 'a', mode: 'speaker' }), 'a');
  assert.equal(large({ pinned: 'gone' }), undefined);
});
