/** Which users the charts of media are about. */
import type { Group, GroupSample, Results, Sample } from './results';

/** `all`, `region:R` or `group:USERS@NODE`: the value of the page's `<select>`. */
export type Selection = string;

export const ALL: Selection = 'all';

export interface Choice {
  value: Selection;
  label: string;
}

/** What can be chosen: regions if there are several, and every group. */
export function choices(runs: Results[]): { regions: Choice[]; groups: Choice[] } {
  const groups = runs.flatMap((run) => run.groups);
  const regions = [...new Set(groups.map(({ region }) => region))];
  const names = [...new Set(groups.map(groupName))];
  return {
    regions: regions.length > 1 ? regions.map((region) => ({ value: `region:${region}`, label: region })) : [],
    groups: names.length > 1 ? names.map((name) => ({ value: `group:${name}`, label: name })) : [],
  };
}

export function groupName({ users, node }: Group): string {
  return `${users} @ ${node}`;
}

/** The indices of a run's groups that are meant. */
export function selected(run: Results, selection: Selection): number[] {
  const meant = (group: Group) =>
    selection === ALL || selection === `region:${group.region}` || selection === `group:${groupName(group)}`;
  return [...run.groups.keys()].filter((index) => run.groups[index] && meant(run.groups[index]));
}

/** What a second has of these groups. */
export function samplesOf(sample: Sample, groups: number[]): GroupSample[] {
  return sample.groups.filter(({ group }) => groups.includes(group));
}
