/** Draws a chart with uPlot. */
import uPlot from 'uplot';
import type { Chart, Line } from './charts';
import { type Scale, digits, format, runTime, scaleOf } from './format';
import type { Mark } from './events';

/** What all plots of a page have in common. */
export interface Surroundings {
  marks: Mark[];
  /** Seconds of ramp, which are shaded. */
  ramp: number;
  /** Seconds that the longest run lasted. */
  length: number;
}

const HEIGHT_PX = 220;
/** Above the plot, where the events' names are. */
const TOP_PX = 36;
/** Between the lines of those names. */
const NAME_PX = 14;
const PALETTE = 8;
/** Steps of the time axis, in seconds. */
const TIME_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400];

export function plot(chart: Chart, target: HTMLElement, width: number, surroundings: Surroundings): uPlot {
  const lines = chart.tables.flatMap((table) => table.lines);
  const data = uPlot.join(chart.tables.map(({ times, lines }) => [times, ...lines.map(({ values }) => values)]));
  const scale = scaleOf(chart.unit, greatestOf(lines));
  return new uPlot(
    {
      width,
      height: HEIGHT_PX,
      padding: [TOP_PX, 18, 0, 0],
      // Where a pointer is in one plot, its time is shown in all.
      cursor: { sync: { key: 'time' }, points: { size: 6 }, drag: { x: true, y: false } },
      scales: {
        x: { time: false, range: (u, from, to) => timeRange(u, from, to) },
        y: { range: (_, __, greatest) => [0, greatest > 0 ? greatest * 1.06 : 1] },
      },
      legend: { markers: { dash: (u, index) => (u.series[index]?.dash ? 'dashed' : 'solid') } },
      axes: axes(scale, surroundings.length),
      series: [
        { label: 'Time', value: (_, at) => (at === null ? '' : runTime(at, surroundings.length)) },
        ...lines.map((line) => series(line, chart)),
      ],
      hooks: {
        drawClear: [(u) => shadeRamp(u, surroundings.ramp)],
        draw: [(u) => drawLimit(u, chart), (u) => drawMarks(u, surroundings.marks)],
      },
    },
    data,
    target,
  );
}

/** What the axis of a chart counts. */
export function axisUnit(chart: Chart): string {
  return scaleOf(chart.unit, greatestOf(chart.tables.flatMap((table) => table.lines))).suffix;
}

/** What those hear who do not see it. */
export function inWords(chart: Chart): string {
  const words = chart.tables.flatMap(({ lines }) => lines).map(({ label, values }) => {
    const measured = values.filter((value) => value !== null);
    if (measured.length === 0) return `${label}: nothing measured`;
    const [least, greatest] = [Math.min, Math.max].map((most) => measured.reduce((a, b) => most(a, b)));
    return `${label}: from ${format(chart.unit, least)} to ${format(chart.unit, greatest)}`;
  });
  return `Line chart over time. ${chart.title}. ${words.join('; ')}.`;
}

function greatestOf(lines: Line[]): number {
  return lines.flatMap(({ values }) => values).reduce<number>((most, value) => Math.max(most, value ?? 0), 0);
}

/** A run begins at 0; a single second is given some width. */
function timeRange(u: uPlot, from: number | null, to: number | null): uPlot.Range.MinMax {
  const times = u.data[0];
  const whole = from === null || to === null || (from === times[0] && to === times[times.length - 1]);
  return whole ? [0, Math.max(1, to ?? 1)] : [from, to];
}

function series(line: Line, chart: Chart): uPlot.Series {
  const color = variable(`--series-${(line.color % PALETTE) + 1}`);
  const stepped = chart.stepped ? uPlot.paths.stepped?.({ align: 1 }) : undefined;
  return {
    label: line.label,
    stroke: color,
    width: 1.75,
    ...(line.dashed || line.color >= PALETTE ? { dash: [5, 4] } : {}),
    ...(stepped ? { paths: stepped } : {}),
    value: (_, value) => (value === null || value === undefined ? '' : format(chart.unit, value)),
    // Only values without neighbours, of which no line would tell.
    points: { show: true, size: 5, width: 0, fill: color, filter: (u, index) => lonely(u.data[index] ?? []) },
  };
}

function lonely(values: ArrayLike<number | null | undefined>): number[] {
  const measured = (index: number) => values[index] !== null && values[index] !== undefined;
  const neighbour = (index: number, step: number) => {
    let at = index + step;
    while (at >= 0 && at < values.length && values[at] === undefined) at += step;
    return measured(at);
  };
  return [...Array(values.length).keys()].filter((at) => measured(at) && !neighbour(at, -1) && !neighbour(at, 1));
}

function axes(scale: Scale, length: number): uPlot.Axis[] {
  const common = {
    stroke: () => variable('--text-soft'),
    font: '11px system-ui, sans-serif',
    grid: { stroke: () => variable('--grid'), width: 1 },
    ticks: { show: false },
  };
  return [
    { ...common, incrs: TIME_STEPS, space: 56, size: 26, values: (_, splits) => splits.map((at) => runTime(at, length)) },
    {
      ...common,
      space: 36,
      size: (_, values) => 16 + 6.5 * Math.max(2, ...(values ?? []).map((value) => value.length)),
      values: (_, splits) => splits.map((value) => tick(value / scale.divisor)),
    },
  ];
}

/** As few digits as the axis needs. */
function tick(value: number): string {
  return value >= 1000 ? digits(value) : String(Number(value.toPrecision(6)));
}

function shadeRamp(u: uPlot, ramp: number): void {
  if (ramp <= 0) return;
  const { ctx, bbox } = u;
  const right = Math.min(u.valToPos(ramp, 'x', true), bbox.left + bbox.width);
  if (right <= bbox.left) return;
  ctx.save();
  ctx.fillStyle = variable('--ramp');
  ctx.fillRect(bbox.left, bbox.top, right - bbox.left, bbox.height);
  ctx.restore();
}

function drawLimit(u: uPlot, { limit }: Chart): void {
  if (limit === undefined) return;
  const { ctx, bbox } = u;
  const y = u.valToPos(limit, 'y', true);
  if (y < bbox.top || y > bbox.top + bbox.height) return;
  ctx.save();
  ctx.fillStyle = variable('--bad');
  line(u, [4, 4], bbox.left, y, bbox.left + bbox.width, y);
  text(u, 'right', 'SLO', bbox.left + bbox.width - 4 * devicePixelRatio, y - 7 * devicePixelRatio);
  ctx.restore();
}

/** Events as vertical lines, with their names above, in two rows in turn, as far as there is room. */
function drawMarks(u: uPlot, marks: Mark[]): void {
  const { ctx, bbox } = u;
  const end = bbox.left + bbox.width;
  const visible = marks.map((mark) => ({ mark, x: u.valToPos(mark.at, 'x', true) })).filter(({ x }) => x >= bbox.left && x <= end);
  ctx.save();
  ctx.fillStyle = variable('--event');
  visible.forEach(({ mark, x }, index) => {
    const y = bbox.top - (index % 2 === 0 ? NAME_PX + 8 : 8) * devicePixelRatio;
    line(u, [2, 3], x, y + 6 * devicePixelRatio, x, bbox.top + bbox.height);
    const room = (visible[index + 2]?.x ?? end) - x - 6 * devicePixelRatio;
    text(u, 'left', fitted(u, `${mark.number} ${mark.what}`, room) ?? String(mark.number), x, y);
  });
  ctx.restore();
}

/** A text, or as much of it as there is room for; nothing if that is next to nothing. */
function fitted(u: uPlot, label: string, room: number): string | undefined {
  u.ctx.font = font();
  for (let length = label.length; length > 4; length--) {
    const shown = length === label.length ? label : `${label.slice(0, length).trimEnd()}…`;
    if (u.ctx.measureText(shown).width <= room) return shown;
  }
  return undefined;
}

function line({ ctx }: uPlot, dash: number[], fromX: number, fromY: number, toX: number, toY: number): void {
  ctx.strokeStyle = ctx.fillStyle;
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash(dash.map((length) => length * devicePixelRatio));
  ctx.beginPath();
  ctx.moveTo(fromX, fromY);
  ctx.lineTo(toX, toY);
  ctx.stroke();
}

/** A text that can be read also across lines. */
function text({ ctx }: uPlot, align: CanvasTextAlign, label: string, x: number, y: number): void {
  ctx.font = font();
  ctx.textAlign = align;
  ctx.textBaseline = 'middle';
  ctx.strokeStyle = variable('--surface');
  ctx.lineWidth = 4 * devicePixelRatio;
  ctx.lineJoin = 'round';
  ctx.setLineDash([]);
  ctx.strokeText(label, x, y);
  ctx.fillText(label, x, y);
}

function font(): string {
  return `${11 * devicePixelRatio}px system-ui, sans-serif`;
}

/** A colour of the style sheet, which knows whether it is dark. */
function variable(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
