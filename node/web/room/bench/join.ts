/**
 * How long a joiner waits: WebSocket open -> first decoded remote frame, in a warm Chromium tab.
 *
 * One mesh (`sluice dev --nodes 2`, release build) and two Chromium browsers share the machine over loopback. Alice sends
 * camera (fake, 1280x720 at 30 frames per second) and microphone on node 1. Bob has the lobby open, clicks "Join", waits
 * for Alice's picture, and leaves; the next round starts when Alice's page has forgotten him.
 * After some rounds that do not count, so that code is compiled and the router's capabilities are known as for anybody
 * who comes a second time, 20 joins count on node 1 (same node) and 20 on node 2 (other node: Alice's media cross a pipe).
 *
 * Times are User Timing marks of Bob's page: `ws-open` in the WebSocket's open event; `first-frame` is the
 * `presentationTime` that requestVideoFrameCallback gives for the first frame of a remote video, which is when the decoded
 * frame was handed to the compositor. Bob's own camera is on, and sends as the page always does.
 *
 * Options: `--rounds N` (default 20).
 */
import { launch } from '@sluice/web-kit/harness/browser';
import { eventually } from '@sluice/web-kit/harness/eventually';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { Person } from '../harness/person';
import type { Mark } from '../src/marks';

const WARM_UP_ROUNDS = 3;
const STEPS: Mark[] = ['joined', 'recv-connected', 'first-frame'];
const ROOM = 'bench';

const option = process.argv.indexOf('--rounds');
const rounds = option < 0 ? 20 : Number(process.argv[option + 1]);

type Times = Record<Mark, number>;

async function join(alice: Person, bob: Person): Promise<Times> {
  await bob.page.getByRole('button', { name: 'Join the room' }).click();
  const marks = await eventually('the first frame is there', async () => {
    const marks = await bob.page.evaluate(() => window.sluice.marks());
    return marks['first-frame'] !== undefined && marks['joined'] !== undefined ? (marks as Times) : undefined;
  });
  await bob.page.getByRole('button', { name: 'Leave the room' }).click();
  await alice.tile('Bob').waitFor({ state: 'detached' });
  return marks;
}

/** The nearest-rank percentile. */
function percentile(values: number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? NaN;
}

async function measure(label: string, alice: Person, bob: Person): Promise<void> {
  for (let round = 0; round < WARM_UP_ROUNDS; round++) await join(alice, bob);
  const times: Times[] = [];
  for (let round = 0; round < rounds; round++) times.push(await join(alice, bob));
  for (const step of STEPS) {
    const values = times.map((marks) => marks[step] - marks['ws-open']);
    const [p50, p95] = [percentile(values, 0.5), percentile(values, 0.95)].map((ms) => ms.toFixed(0).padStart(5));
    console.log(`${label.padEnd(11)} ws-open -> ${step.padEnd(15)} p50 ${p50} ms   p95 ${p95} ms   (${rounds} joins)`);
  }
}

const mesh = await Mesh.dev('bench', 2);
// A browser each: pages of one browser share its fake camera, which stands still for a second whenever one of them opens it anew.
const [hers, his] = await Promise.all([launch({ framesPerSecond: 30 }), launch({ framesPerSecond: 30 })]);
try {
  const [home, other] = mesh.nodes.map(({ users }) => users);
  const alice = await Person.join(hers, 'Alice', home ?? '', ROOM);
  await alice.inRoom();
  for (const [label, node] of [['same node', home], ['other node', other]] as const) {
    const bob = await Person.open(his, 'Bob', `${node}/?roomId=${ROOM}`);
    await bob.page.getByLabel('Your name').fill('Bob');
    await measure(label, alice, bob);
    await bob.close();
  }
} finally {
  await Promise.all([hers.close(), his.close()]);
  await mesh.stop();
}
