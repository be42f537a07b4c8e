import assert from 'node:assert/strict';
import { test } from 'node:test';
import { grid } from '../src/layout';

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
