/** Where tiles go: the grid that shows a number of pictures as large as the room allows. */

export interface Grid {
  columns: number;
  /** Size of a tile in CSS pixels. */
  width: number;
  height: number;
}

/** A tile is no wider than a camera's picture. */
const WIDEST = 16 / 9;

/** The picture is cropped to a tile that is less wide: a little on a screen that is wide, more on a phone held upright. */
const TALLEST = { wide: 4 / 3, upright: 0.7 };

/** Below this width a name cannot be read: the grid scrolls instead. */
const MIN_WIDTH = 150;

/** The grid for `count` tiles in an area of `width` x `height` with `gap` between tiles. */
export function grid(count: number, width: number, height: number, gap: number): Grid {
  let best: Grid = { columns: 1, width: 0, height: 0 };
  for (let columns = 1; columns <= count; columns++) {
    const tile = largestTile(columns, Math.ceil(count / columns), width, height, gap);
    if (tile.width * tile.height > best.width * best.height) best = { columns, ...tile };
  }
  const columnsThatFit = Math.max(1, Math.min(count, Math.floor((width + gap) / (MIN_WIDTH + gap))));
  return best.width < MIN_WIDTH ? scrolling(columnsThatFit, width, gap) : best;
}

function largestTile(columns: number, rows: number, width: number, height: number, gap: number) {
  const cellWidth = Math.max(0, (width - gap * (columns - 1)) / columns);
  const cellHeight = Math.max(0, (height - gap * (rows - 1)) / rows);
  const tallest = height > width ? TALLEST.upright : TALLEST.wide;
  const shape = Math.min(WIDEST, Math.max(tallest, cellHeight > 0 ? cellWidth / cellHeight : WIDEST));
  const tileWidth = Math.min(cellWidth, cellHeight * shape);
  return { width: Math.floor(tileWidth), height: Math.floor(tileWidth / shape) };
}

function scrolling(columns: number, width: number, gap: number): Grid {
  const tileWidth = Math.floor((width - gap * (columns - 1)) / columns);
  return { columns, width: tileWidth, height: Math.floor(tileWidth / WIDEST) };
}
