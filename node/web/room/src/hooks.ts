/** `window.sluice`: what the end-to-end tests and the join benchmark look at. */
import { marks, type Mark } from './marks';
import type { Meeting } from './meeting';

export interface Hooks {
  /** The meeting's state: `lobby`, or that of {@link Meeting}. */
  state(): string;
  /** Milliseconds since the page's start at which the steps of the present join happened. */
  marks(): Partial<Record<Mark, number>>;
  /** The browser's statistics of both transports, as plain entries. */
  stats(): Promise<{ recv: unknown[]; send: unknown[] }>;
  /** Consumer ids by peer and source, to find a peer's entries among the statistics. */
  consumers(): { peer: string; name: string; source: string; id: string; hops: number | undefined }[];
}

declare global {
  interface Window {
    sluice: Hooks;
  }
}

export function installHooks(meeting: () => Meeting | undefined): void {
  window.sluice = {
    state: () => meeting()?.state.name ?? 'lobby',
    marks,
    async stats() {
      const reports = await meeting()?.session?.stats();
      return { recv: entries(reports?.recv), send: entries(reports?.send) };
    },
    consumers: () =>
      [...(meeting()?.session?.peers.values() ?? [])].flatMap((peer) =>
        Object.entries(peer.sources).map(([source, { consumerId }]) => ({
          peer: peer.id,
          name: peer.displayName,
          source,
          id: consumerId,
          hops: peer.hops,
        })),
      ),
  };
}

function entries(report: RTCStatsReport | undefined): unknown[] {
  const result: unknown[] = [];
  report?.forEach((entry) => result.push(entry));
  return result;
}
