/** What was run, against what, and what came of it. */
import { h } from '@sluice/web-kit/ui/dom';
import { letter } from '../charts';
import { duration, plural } from '../format';
import type { Results } from '../results';

/** The heading of a page about one run. */
export function runHeading(run: Results): HTMLElement {
  const { scenario } = run;
  return h(
    'header',
    { class: 'heading' },
    h('div', { class: 'title' }, h('p', { class: 'kicker' }, 'Sluice load test'), h('h1', {}, scenario.name), h('p', { class: 'lead' }, scenario.description)),
    verdictBadge(run),
    facts(run),
    ...remarks(run),
  );
}

/** The heading of a comparison: all runs, by the letters that they have in it. */
export function comparisonHeading(runs: Results[]): HTMLElement {
  const card = (run: Results, index: number) =>
    h(
      'article',
      { class: 'card', attrs: { style: `--run: var(--series-${(index % 8) + 1})` } },
      h('h2', {}, h('span', { class: 'letter' }, letter(index)), ` ${run.target.label}`),
      h('p', { class: 'lead' }, run.scenario.name),
      verdictBadge(run),
      facts(run),
      ...remarks(run),
    );
  return h(
    'header',
    { class: 'heading' },
    h('div', { class: 'title' }, h('p', { class: 'kicker' }, 'Sluice load test'), h('h1', {}, `Comparison of ${runs.length} runs`)),
    h('div', { class: 'cards' }, ...runs.map(card)),
  );
}

function verdictBadge({ verdict }: Results): HTMLElement {
  const words = { passed: 'Passed', failed: 'Failed', not_judged: 'Not judged' }[verdict.is];
  return h(
    'div',
    { class: `verdict ${verdict.is}` },
    h('strong', {}, words),
    h('span', {}, verdict.is === 'not_judged' ? verdict.reason : verdict.is === 'passed' ? 'All objectives were met.' : 'Not all objectives were met.'),
  );
}

function facts(run: Results): HTMLElement {
  const { scenario, target } = run;
  const date = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'long' });
  const nodes = target.nodes.map(({ name, region }) => (name === region ? name : `${name} (${region})`)).join(', ');
  const facts = {
    Target: target.label,
    Nodes: nodes,
    Started: date.format(run.started_unix_ms),
    Load: `${plural(scenario.users, 'user')} in ${plural(scenario.rooms, 'room')}`,
    Time: `${duration(scenario.ramp_ms)} of ramp, ${duration(scenario.duration_ms)} after it`,
    Tool: `sluice-loadtest ${run.tool_version}`,
  };
  const entries = Object.entries(facts).map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value)));
  return h('dl', { class: 'facts' }, ...entries);
}

/** What the reader must know before trusting the figures. */
function remarks({ ended, ran_s, generator }: Results): HTMLElement[] {
  const remarks = [];
  if (ended.how === 'interrupted') remarks.push(`The run was interrupted after ${duration(ran_s * 1000)}.`);
  if (ended.how === 'aborted') remarks.push(`The run was aborted after ${duration(ran_s * 1000)}: ${ended.reason}`);
  for (const reason of generator.overloaded) remarks.push(`The load generator was the bottleneck: ${reason}`);
  return remarks.map((remark) => h('p', { class: 'remark', attrs: { role: 'note' } }, remark));
}
