/** Somebody who has Firefox and somebody who has Chromium, on two nodes of one `sluice dev` mesh. */
import { existsSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { after, before, describe, test } from 'node:test';
import { launch, type AnyPage, type Browser } from '@sluice/web-kit/harness/browser';
import { FIREFOX } from '@sluice/web-kit/harness/environment';
import { eventually } from '@sluice/web-kit/harness/eventually';
import { Firefox } from '@sluice/web-kit/harness/firefox';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { atHome } from '@sluice/web-kit/harness/namespace';

const ROOM = 'two browsers';

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

async function seesAndHears(name: string, page: AnyPage): Promise<void> {
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

function tests(): void {
  describe('Firefox and Chromium', { skip: existsSync(FIREFOX) ? false : 'Firefox is not installed' }, () => {
    let mesh: Mesh;
    let chromium: Browser;
    let firefox: Firefox;

    before(async () => {
      mesh = await Mesh.dev('firefox', 2);
      [chromium, firefox] = await Promise.all([launch(), Firefox.launch()]);
    });

    after(async () => {
      await firefox?.close();
      await chromium?.close();
      await mesh?.stop();
    });

    test('each sees and hears the other', async () => {
      const people = { Cleo: await chromium.newPage(), Fay: await firefox.newPage() };
      for (const [index, [name, page]] of Object.entries(people).entries()) {
        await page.goto(`${mesh.nodes[index]?.users}/?${new URLSearchParams({ roomId: ROOM, displayName: name })}`);
      }
      await Promise.all(Object.entries(people).map(([name, page]) => seesAndHears(name, page)));
    });
  });
}

// Firefox sends no media to loopback addresses: where there are no others, the test makes one.
const connected = Object.values(networkInterfaces()).some((addresses) => addresses?.some(({ internal, family }) => !internal && family === 'IPv4'));
if (connected) tests();
else atHome('Firefox and Chromium', [], tests);
