/**
 * Viewers at home, behind a link that is not always good: the nodes and who is seen are in the world, at the cable's other end. Rate and
 * loss are the kernel's.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, test, type TestContext } from 'node:test';
import { launch, type AnyPage, type Browser } from '@sluice/web-kit/harness/browser';
import { FIREFOX } from '@sluice/web-kit/harness/environment';
import { eventually } from '@sluice/web-kit/harness/eventually';
import { Firefox } from '@sluice/web-kit/harness/firefox';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { atHome, CABLE, nft, WORLD_ADDRESS } from '@sluice/web-kit/harness/namespace';
import { Participant } from '../harness/participant';

const ROOM = 'links';

/** The whole picture fits the wide link, and not the narrow one. */
const WIDE = '5mbit';
const NARROW = '1mbit';
const NARROW_BITS = 1_000_000;

/** Two packets: what a link lets through at once beyond its rate looks like a faster one to whoever probes it. */
const BURST = '3kb';

/** In three encodings, as mediasoup-demo's apps send a camera's: of a smaller one libwebrtc makes no three. */
const PICTURE = { width: 960, height: 540, framesPerSecond: 15 };

/** How much of the sound may be made up because it did not come: that cannot be heard. */
const CONCEALED = 0.02;

/** As soon as the link is narrow, what has been sent stands in its queue for 200 ms: sound that comes so much later is made up once. */
const QUEUE_MS = 200;
const CONCEALED_ONCE_MS = 3 * QUEUE_MS;

interface Sound {
  playedMs: number;
  /** How much of that was made up because it did not come. */
  concealedMs: number;
}

atHome('viewers behind links of several kinds', ['tc', 'nft'], (world) => {
  let mesh: Mesh;
  let nearby: Browser;
  let browser: Browser;
  let firefox: Firefox | undefined;
  let ann: Participant;
  let viewer: Participant;

  before(async () => {
    link(WIDE);
    mesh = await Mesh.processes('links', 3, [], { namespace: world, addresses: [WORLD_ADDRESS] });
    const options = { autoplay: true, secure: mesh.nodes.map(({ users }) => users) };
    [nearby, browser] = await Promise.all([launch({ ...options, namespace: world }), launch(options)]);
    ann = await Participant.open(await nearby.newPage(), 'Ann', mesh.nodes[0]?.users ?? '');
    await ann.join({ room: ROOM, sends: { picture: PICTURE } });
    viewer = await joined(await browser.newPage(), 'Ben', 1);
  });

  after(async () => {
    await firefox?.close();
    await browser?.close();
    await nearby?.close();
    await mesh?.stop();
  });

  function link(rate: string): void {
    world.run(...`tc qdisc replace dev ${CABLE} root tbf rate ${rate} burst ${BURST} latency ${QUEUE_MS}ms`.split(' '));
  }

  async function joined(page: AnyPage, name: string, node: number): Promise<Participant> {
    const participant = await Participant.open(page, name, mesh.nodes[node]?.users ?? '');
    await participant.join({ room: ROOM, sends: 'nothing' });
    await participant.seesAndHears(ann);
    return participant;
  }

  /** Whether the viewer gets the best, and is told so. */
  const full = async (viewer: Participant) => (await viewer.width(ann)) === PICTURE.width && (await viewer.layer(ann)) === 2;

  /** Whether the viewer gets less, and is told so. */
  const less = async (viewer: Participant) => (await viewer.width(ann)) < PICTURE.width && ((await viewer.layer(ann)) ?? 2) < 2;

  /** Waits until a second of the picture is more than passes the narrow link in that time. */
  function takesMore(viewer: Participant): Promise<unknown> {
    const bits = async () => 8 * Number((await viewer.received(ann, 'video'))['bytesReceived']);
    return eventually('the picture takes more than the narrow link has', async () => {
      const before = await bits();
      await viewer.seesAndHears(ann, PICTURE.framesPerSecond);
      return (await bits()) - before > 1.5 * NARROW_BITS;
    }, 45_000);
  }

  /** Does something and says how long it is until the picture is as it should be. */
  async function until(context: TestContext, what: string, act: () => void, holds: () => Promise<boolean>): Promise<void> {
    const start = performance.now();
    act();
    await eventually(what, holds, 45_000);
    context.diagnostic(`${what}: after ${((performance.now() - start) / 1_000).toFixed(1)} s`);
  }

  async function sound(viewer: Participant): Promise<Sound> {
    const stats = await viewer.received(ann, 'audio');
    const playedMs = 1_000 * Number(stats['totalSamplesDuration']);
    return { playedMs, concealedMs: (playedMs * Number(stats['concealedSamples'])) / Number(stats['totalSamplesReceived']) };
  }

  /** What has been played since. */
  async function soundSince(context: TestContext, viewer: Participant, before: Sound): Promise<Sound> {
    const now = await sound(viewer);
    const since = { playedMs: now.playedMs - before.playedMs, concealedMs: now.concealedMs - before.concealedMs };
    context.diagnostic(`of ${since.playedMs.toFixed()} ms of sound ${since.concealedMs.toFixed()} ms were made up`);
    return since;
  }

  async function hearsAllSince(context: TestContext, viewer: Participant, before: Sound): Promise<void> {
    const { playedMs, concealedMs } = await soundSince(context, viewer, before);
    assert.ok(concealedMs < CONCEALED * playedMs, 'the sound has no gaps');
  }

  async function follows(context: TestContext, viewer: Participant): Promise<void> {
    await until(context, `${viewer.name} gets the whole picture`, () => link(WIDE), () => full(viewer));
    await takesMore(viewer);
    const wide = await sound(viewer);
    await until(context, 'the picture gets smaller', () => link(NARROW), () => less(viewer));
    assert.ok((await soundSince(context, viewer, wide)).concealedMs < CONCEALED_ONCE_MS, 'the sound is late once');
    const narrow = await sound(viewer);
    await viewer.seesAndHears(ann, 60);
    assert.ok(await less(viewer), 'it stays so while the link is narrow');
    await until(context, 'the picture is whole again', () => link(WIDE), () => full(viewer));
    await hearsAllSince(context, viewer, narrow);
  }

  test('in Chromium the picture follows a link that narrows and widens, and the sound has no gaps', (context) => follows(context, viewer));

  test('in Chromium loss at random costs neither picture nor sound', async (context) => {
    await until(context, `${viewer.name} gets the whole picture`, () => link(WIDE), () => full(viewer));
    const before = await sound(viewer);
    nft('add', 'table', 'inet', 'home');
    nft('add', 'chain', 'inet', 'home', 'input', '{ type filter hook input priority 0; }');
    nft('add', 'rule', 'inet', 'home', 'input', ...`iif ${CABLE} meta l4proto udp numgen random mod 100 < 5 drop`.split(' '));
    try {
      await viewer.seesAndHears(ann, 150);
      assert.ok(await full(viewer), 'the picture is whole');
      await hearsAllSince(context, viewer, before);
    } finally {
      nft('delete', 'table', 'inet', 'home');
    }
    await viewer.leave();
  });

  test('in Firefox the picture follows too', { skip: existsSync(FIREFOX) ? false : 'Firefox is not installed' }, async (context) => {
    firefox = await Firefox.launch();
    viewer = await joined(await firefox.newPage(), 'Fay', 2);
    await follows(context, viewer);
  });
});
