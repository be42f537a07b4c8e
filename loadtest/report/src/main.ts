/** Puts the page together, out of the data that stand in it. */
import { h } from '@sluice/web-kit/ui/dom';
import { letter } from './charts';
import { eventTable, runDetails } from './page/details';
import { Gallery } from './page/gallery';
import { comparisonHeading, runHeading } from './page/heading';
import { comparison, objectives, tiles } from './page/overview';
import type { Data, Results } from './results';

show(JSON.parse(document.getElementById('data')?.textContent ?? '') as Data);

function show(data: Data): void {
  const { runs } = data;
  const [run] = runs;
  const report = document.getElementById('report');
  if (!run || !report) return;
  document.title = runs.length > 1 ? `Comparison: ${runs.map(titleOf).join(', ')}` : `${titleOf(run)} – load test`;
  const gallery = runs.some(({ samples }) => samples.length > 0) ? new Gallery(runs) : undefined;
  const parts = [
    runs.length > 1 ? comparisonHeading(runs) : runHeading(run),
    runs.length > 1 ? comparison(data) : tiles(data),
    objectives(runs),
    eventTable(runs),
    gallery?.element,
    ...runs.flatMap((run, index) => details(run, runs.length > 1 ? `Details of ${letter(index)}: ${run.target.label}` : 'Details')),
  ];
  report.append(...parts.filter((part) => part !== undefined));
  gallery?.draw();
}

function details(run: Results, title: string): HTMLElement[] {
  return [h('section', { class: 'details' }, h('h2', {}, title), ...runDetails(run))];
}

function titleOf({ scenario, target }: Results): string {
  return `${scenario.name} on ${target.label}`;
}
