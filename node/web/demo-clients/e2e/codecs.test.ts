/**
 * Each codec that Chromium sends, with the layers that it sends it in: somebody on one node, and somebody on each of three nodes who sees
 * it. On the way to the third some is lost.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, type Browser } from '@sluice/web-kit/harness/browser';
import { eventually } from '@sluice/web-kit/harness/eventually';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { Participant } from '../harness/participant';
import type { Sending } from '../src/client';

/** The way to the third node. */
const PATH = 'eu-ap=20ms,2%';

/** There is no picture for as long as it takes to get a key frame from anywhere: less than 1 s, and more on a machine that is busy. */
const LONGEST_GAP_MS = 2_000;

/** Of a smaller one libwebrtc makes no three encodings or spatial layers. */
const PICTURE = { width: 960, height: 540, framesPerSecond: 10 };

const SIMULCAST = [
  { scaleResolutionDownBy: 4, maxBitrate: 100_000, scalabilityMode: 'L1T3' },
  { scaleResolutionDownBy: 2, maxBitrate: 250_000, scalabilityMode: 'L1T3' },
  { scaleResolutionDownBy: 1, maxBitrate: 800_000, scalabilityMode: 'L1T3' },
];

const svc = (scalabilityMode: string) => [{ scalabilityMode, maxBitrate: 1_200_000 }];

interface Kind extends Required<Omit<Sending, 'picture'>> {
  name: string;
  scrambled?: boolean;
}

const SPATIAL: (Kind & { type: 'simulcast' | 'svc' })[] = [
  { name: 'VP8 simulcast', type: 'simulcast', codec: 'video/VP8', encodings: SIMULCAST },
  { name: 'H.264 simulcast', type: 'simulcast', codec: 'video/H264', encodings: SIMULCAST },
  { name: 'VP9 L3T3_KEY', type: 'svc', codec: 'video/VP9', encodings: svc('L3T3_KEY') },
  { name: 'VP9 L3T3_KEY that only the ends can read', type: 'svc', codec: 'video/VP9', encodings: svc('L3T3_KEY'), scrambled: true },
  { name: 'AV1 L3T3', type: 'svc', codec: 'video/AV1', encodings: svc('L3T3') },
];

const TEMPORAL: Kind[] = [
  { name: 'VP8 L1T3', codec: 'video/VP8', encodings: svc('L1T3') },
  { name: 'AV1 L1T3', codec: 'video/AV1', encodings: svc('L1T3') },
];

let mesh: Mesh;
let browser: Browser;
let ann: Participant;
let viewers: Participant[];

before(async () => {
  mesh = await Mesh.dev('codecs', 3, [PATH]);
  browser = await launch({ autoplay: true });
  const open = async (name: string, node: number) => Participant.open(await browser.newPage(), name, mesh.nodes[node]?.users ?? '');
  ann = await open('Ann', 0);
  viewers = await Promise.all([open('Near', 0), open('Far', 1), open('Lossy', 2)]);
});

after(async () => {
  await browser?.close();
  await mesh?.stop();
});

/** All meet in a room of its own, do something there, and leave it without a complaint. */
async function meet(kind: Kind, act: () => Promise<void>): Promise<void> {
  const { name: room, codec, encodings, scrambled = false } = kind;
  try {
    await ann.join({ room, scrambled, sends: { picture: PICTURE, codec, encodings } });
    await Promise.all(viewers.map((viewer) => watches(viewer, kind)));
    await act();
    for (const participant of [ann, ...viewers]) assert.deepEqual(await participant.errors(), [], participant.name);
  } finally {
    await Promise.all([ann, ...viewers].map((participant) => participant.leave()));
  }
}

async function watches(viewer: Participant, { name: room, scrambled = false }: Kind): Promise<void> {
  await viewer.join({ room, scrambled, sends: 'nothing' });
  await viewer.seesAndHears(ann);
}

/** Waits until the viewer's picture is that of this spatial layer of three: all are sent once Chromium's own estimate has room for them. */
function gets(viewer: Participant, spatialLayer: number): Promise<unknown> {
  const width = PICTURE.width / 2 ** (2 - spatialLayer);
  return eventually(`${viewer.name} gets layer ${spatialLayer}`, async () => (await viewer.width(ann)) === width, 45_000);
}

for (const kind of SPATIAL) {
  test(`${kind.name}: each gets the layer that it prefers, another without a long freeze, and a picture when it comes again`, (context) =>
    meet(kind, async () => {
      for (const viewer of viewers) assert.equal(await viewer.consumerType(ann, 'video'), kind.type);
      await Promise.all(viewers.map(async (viewer, layer) => {
        await viewer.prefer(ann, layer);
        await gets(viewer, layer);
      }));
      // All go up by one, and from the highest to the lowest, until each is where it began.
      for (const step of [1, 2, 3]) {
        await Promise.all(viewers.map(async (viewer, index) => {
          const layer = (index + step) % 3;
          await viewer.watch(ann);
          await viewer.prefer(ann, layer);
          await gets(viewer, layer);
          const gap = await viewer.longestGapMs(ann);
          context.diagnostic(`${viewer.name} to layer ${layer}: ${gap.toFixed()} ms without a new picture`);
          assert.ok(gap < LONGEST_GAP_MS, `${viewer.name}: ${gap.toFixed()} ms without a new picture`);
        }));
      }
      await Promise.all(viewers.map(async (viewer) => {
        await viewer.leave();
        await watches(viewer, kind);
      }));
    }));
}

for (const kind of TEMPORAL) {
  test(`${kind.name}: each gets the frames of the temporal layer that it prefers`, (context) =>
    meet(kind, async () => {
      await Promise.all(viewers.map((viewer, temporal) => viewer.prefer(ann, 0, temporal)));
      const frames = () => Promise.all(viewers.map(async (viewer) => (await viewer.progress(ann)).frames));
      // Each temporal layer more has twice as many pictures: counted anew until all are switched.
      await eventually('a quarter, half and all of the frames come', async () => {
        const start = await frames();
        const counted = async () => (await frames()).map((count, index) => count - (start[index] ?? 0));
        await eventually('40 frames come', async () => ((await counted())[2] ?? 0) >= 40, 20_000);
        const [one = 0, two = 0, all = 0] = await counted();
        context.diagnostic(`with temporal layer 0 ${one} frames came, with 1 ${two}, with 2 ${all}`);
        return one / all > 0.15 && one / all < 0.35 && two / all > 0.4 && two / all < 0.65;
      }, 30_000);
    }));
}
