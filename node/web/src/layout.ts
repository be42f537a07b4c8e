/** Where tiles go: the grid that shows a number of pictures as large as the room allows. */

export interface Grid {
  columns: number;
  /** Size of a tile in CSS pixels. */
  width: number;
  height: number;
}

/** A tile's shape stays within these; the picture is cropped to it. */
const WIDEST = 16 / 9;
const TALLEST = 4 / 5;

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
  const shape = Math.min(WIDEST, Math.max(TALLEST, cellHeight > 0 ? cellWidth / cellHeight : WIDEST));
  const tileWidth = Math.min(cellWidth, cellHeight * shape);
  return { width: Math.floor(tileWidth), height: Math.floor(tileWidth / shape) };
}

function scrolling(columns: number, width: number, gap: number): Grid {
  const tileWidth = Math.floor((width - gap * (columns - 1)) / columns);
  return { columns, width: tileWidth, height: Math.floor(tileWidth / WIDEST) };
}
