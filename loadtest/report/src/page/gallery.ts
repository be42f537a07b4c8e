/** The charts, and the controls that choose what they show. */
import type uPlot from 'uplot';
import { h } from '@sluice/web-kit/ui/dom';
import { type Chart, PERCENTILES, type View, sections } from '../charts';
import { marks, rampOf } from '../events';
import type { Percentile } from '../measures';
import { type Surroundings, axisUnit, inWords, plot } from '../plot';
import type { Results } from '../results';
import { ALL, choices } from '../selection';

/** Width of a plot on paper, where two stand side by side. */
const PRINTED_PX = 340;

export class Gallery {
  readonly element: HTMLElement;
  private readonly charts = h('div');
  private readonly view: View = { selection: ALL, percentile: 'p99_ms' };
  private readonly surroundings: Surroundings;
  private plots: { plot: uPlot; place: HTMLElement }[] = [];

  constructor(private readonly runs: Results[]) {
    const length = Math.max(...runs.map((run) => run.samples.at(-1)?.at_s ?? 0));
    this.surroundings = { marks: marks(runs), ramp: rampOf(runs), length };
    this.element = h('section', { class: 'gallery' }, this.controls(), this.charts);
    new ResizeObserver(() => this.fit()).observe(this.charts);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.draw());
    addEventListener('beforeprint', () => this.print(true));
    addEventListener('afterprint', () => this.print(false));
  }

  /** Draws everything anew, when the element is in the page. */
  draw(width?: number): void {
    for (const { plot } of this.plots) plot.destroy();
    this.plots = [];
    this.charts.replaceChildren(
      ...sections(this.runs, this.view).flatMap(({ title, charts }) => [
        h('h2', {}, title),
        h('div', { class: 'charts' }, ...charts.map((chart) => this.figure(chart))),
      ]),
    );
    for (const [index, chart] of sections(this.runs, this.view).flatMap(({ charts }) => charts).entries()) {
      const place = this.charts.querySelectorAll<HTMLElement>('.plot')[index];
      if (place && measured(chart)) this.plots.push({ plot: this.plot(chart, place, width), place });
    }
  }

  private figure(chart: Chart): HTMLElement {
    const unit = axisUnit(chart);
    return h(
      'figure',
      { class: 'chart', attrs: { 'data-chart': chart.id } },
      h('figcaption', {}, h('h3', {}, chart.title, unit !== '' && h('span', { class: 'unit' }, unit)), h('p', {}, chart.note)),
      h('div', { class: 'plot' }, !measured(chart) && h('p', { class: 'empty' }, 'Nothing was measured.')),
    );
  }

  private plot(chart: Chart, place: HTMLElement, width = place.clientWidth): uPlot {
    const drawn = plot(chart, place, width, this.surroundings);
    const picture = drawn.root.querySelector('.u-wrap');
    picture?.setAttribute('role', 'img');
    picture?.setAttribute('aria-label', inWords(chart));
    return drawn;
  }

  private fit(): void {
    for (const { plot, place } of this.plots) {
      if (place.clientWidth > 0 && place.clientWidth !== plot.width) plot.setSize({ width: place.clientWidth, height: plot.height });
    }
  }

  /** Paper is light, whatever the screen, and as wide as it is. */
  private print(printing: boolean): void {
    document.documentElement.toggleAttribute('data-printing', printing);
    this.draw(printing ? PRINTED_PX : undefined);
  }

  private controls(): HTMLElement {
    const { regions, groups } = choices(this.runs);
    const users = select('Users', [{ label: 'all', value: ALL }], (value) => this.choose({ selection: value }));
    for (const [label, options] of [['Regions', regions], ['Groups', groups]] as const) {
      if (options.length > 0) users.list.append(h('optgroup', { attrs: { label } }, ...options.map(option)));
    }
    const percentiles = Object.entries(PERCENTILES).map(([value, label]) => ({ value, label }));
    const percentile = select('Delay', percentiles, (value) => this.choose({ percentile: value as Percentile }));
    percentile.list.value = this.view.percentile;
    const hint = h('p', { class: 'hint' }, 'Drag across a chart to zoom, double-click to see all. A click on a name hides its line.');
    return h('div', { class: 'controls' }, users.label, percentile.label, hint);
  }

  private choose(choice: Partial<View>): void {
    Object.assign(this.view, choice);
    this.draw();
  }
}

function measured(chart: Chart): boolean {
  return chart.tables.some(({ lines }) => lines.some(({ values }) => values.some((value) => value !== null)));
}

function select(name: string, options: { value: string; label: string }[], chosen: (value: string) => void) {
  const id = `choose-${name.toLowerCase()}`;
  const list = h('select', { id }, ...options.map(option));
  list.addEventListener('change', () => chosen(list.value));
  return { list, label: h('div', { class: 'control' }, h('label', { attrs: { for: id } }, name), list) };
}

function option({ value, label }: { value: string; label: string }): HTMLOptionElement {
  return h('option', { attrs: { value } }, label);
}
