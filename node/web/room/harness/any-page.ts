/** What can be asked of the room page in every browser, where there are two in a room. */
import type { AnyPage } from '@sluice/web-kit/harness/browser';
import { eventually } from '@sluice/web-kit/harness/eventually';

/** What has arrived of the only other person in the room. */
interface Progress {
  frames: number;
  energy: number;
}

function progress(page: AnyPage): Promise<Progress> {
  return page.evaluate(async () => {
    const { recv } = (await window.sluice.stats()) as { recv: Record<string, unknown>[] };
    const sum = (figure: string) => recv.reduce((sum, entry) => sum + Number((entry['type'] === 'inbound-rtp' && entry[figure]) || 0), 0);
    return { frames: sum('framesDecoded'), energy: sum('totalAudioEnergy') };
  }, undefined);
}

export async function seesAndHears(name: string, page: AnyPage): Promise<void> {
  const before = await progress(page);
  await eventually(
    `${name} sees and hears the other`,
    async () => {
      const now = await progress(page);
      return now.frames > before.frames + 20 && now.energy > before.energy;
    },
    60_000,
  );
}

/** By what media come: `udp` or `tcp` straight from the node, or `relay`. */
export function pathTo(page: AnyPage): Promise<string | undefined> {
  return page.evaluate(async () => {
    const { recv } = (await window.sluice.stats()) as { recv: Record<string, unknown>[] };
    const transport = recv.find(({ type }) => type === 'transport');
    const pairs = recv.filter(({ type }) => type === 'candidate-pair');
    // Firefox does not say which one it uses, and nominates no other.
    const pair = pairs.find(({ id }) => id === transport?.['selectedCandidatePairId']) ?? pairs.find(({ nominated }) => nominated);
    const local = recv.find(({ id }) => id === pair?.['localCandidateId']);
    return local && String(local['candidateType'] === 'relay' ? 'relay' : local['protocol']);
  }, undefined);
}
