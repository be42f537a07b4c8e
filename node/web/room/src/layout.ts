/** Where tiles go: a grid that shows all as large as the room allows, or one large tile and a strip of the others. */

export const LAYOUTS = ['grid', 'speaker'] as const;
export type LayoutMode = (typeof LAYOUTS)[number];

/** In CSS pixels. */
export interface Size {
  width: number;
  height: number;
}

/** The size of a tile in so many columns. */
export interface Grid extends Size {
  columns: number;
}

/** One large tile, with the others beside or below it. */
export interface Spotlight {
  beside: boolean;
  large: Size;
  small: Size;
}

/** What decides which tile is large; tiles are named by keys. */
export interface Attention {
  mode: LayoutMode;
  pinned: string | undefined;
  /** Screens of others, the latest last. */
  screens: readonly string[];
  /** Who spoke last, if that is somebody else. */
  speaker: string | undefined;
  others: readonly string[];
}

/** The tile that is large: in the grid, only one that was asked for or a screen, which could not be read else. */
export function largeTile({ mode, pinned, screens, speaker, others }: Attention): string | undefined {
  if (pinned !== undefined && others.includes(pinned)) return pinned;
  const screen = screens.at(-1);
  if (screen !== undefined || mode === 'grid') return screen;
  return speaker !== undefined && others.includes(speaker) ? speaker : others[0];
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

/** The strip is this wide beside the large tile, within what can be recognised and what takes no room from it. */
const STRIP = { share: 0.18, min: 140, max: 240 };

/** So many tiles are in a row below it. */
const STRIP_COLUMNS = 3;

/** A large tile and `others` small ones in an area of `width` x `height` with `gap` between tiles. */
export function spotlight(others: number, width: number, height: number, gap: number): Spotlight {
  const beside = width > height;
  const strip = Math.min(STRIP.max, Math.max(STRIP.min, width * STRIP.share));
  const smallWidth = Math.floor(beside ? strip : (width - gap * (STRIP_COLUMNS - 1)) / STRIP_COLUMNS);
  const small = { width: Math.max(0, smallWidth), height: Math.max(0, Math.floor(smallWidth / WIDEST)) };
  if (others === 0) return { beside, large: { width: Math.floor(width), height: Math.floor(height) }, small };
  const large = {
    width: Math.max(0, Math.floor(beside ? width - small.width - gap : width)),
    height: Math.max(0, Math.floor(beside ? height : Math.min(height - small.height - gap, width / TALLEST.upright))),
  };
  return { beside, large, small };
}
