/** Clients of both dialects, with three versions of mediasoup-client, meet in a room of two nodes. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, type Browser, type Page } from '@sluice/web-kit/harness/browser';
import { eventually } from '@sluice/web-kit/harness/eventually';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { build } from 'esbuild';
import type { Dialect, Progress } from '../src/client';
import type { Version } from '../src/page';

const ROOM = 'dialects';

/** Of the encoding that is a quarter as wide as the camera's picture. */
const LEAST_WIDTH = 160;

interface Participant {
  name: string;
  version: Version;
  dialect: Dialect;
  node: number;
  page: Page;
}

let mesh: Mesh;
let browser: Browser;
let script: string;
const everybody: Participant[] = [];

before(async () => {
  const { outputFiles } = await build({
    entryPoints: ['src/page.ts'],
    bundle: true,
    write: false,
    format: 'iife',
    target: 'chrome111',
    logLevel: 'warning',
  });
  script = outputFiles[0]?.text ?? '';
  mesh = await Mesh.dev('dialects', 2);
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await mesh?.stop();
});

async function join(name: string, version: Version, dialect: Dialect, node: number): Promise<Participant> {
  const page = await browser.newPage();
  const url = mesh.nodes[node]?.users ?? '';
  // Any page of the node's: it may connect, and has devices.
  await page.goto(`${url}/healthz`);
  await page.evaluate(script);
  await page.evaluate(([version, options]) => window.join(version, options), [
    version,
    { dialect, node: url, room: ROOM, name },
  ] as const);
  const participant = { name, version, dialect, node, page };
  everybody.push(participant);
  return participant;
}

function progress({ page }: Participant, of: Participant): Promise<Progress> {
  return page.evaluate((peerId) => window.client.progress(peerId), of.name.toLowerCase());
}

async function seesAndHears(who: Participant, of: Participant): Promise<void> {
  const before = await progress(who, of);
  await eventually(
    `${who.name} sees and hears ${of.name}`,
    async () => {
      const now = await progress(who, of);
      return now.frames > before.frames + 10 && now.energy > before.energy;
    },
    30_000,
  );
}

function paused(who: Participant, of: Participant): Promise<Record<string, boolean>> {
  return who.page.evaluate((peerId) => window.client.paused(peerId), of.name.toLowerCase());
}

function pairs(): [Participant, Participant][] {
  return everybody.flatMap((who) => everybody.filter((other) => other !== who).map((of): [Participant, Participant] => [who, of]));
}

test('clients of three versions and two dialects join', async () => {
  await join('Present', '3.24.1', 'ts', 0);
  await join('Later', '3.7.16', 'v3', 0);
  await join('Old', '3.6.103', 'v3', 1);
  await join('Page', '3.24.1', 'v3', 1);
});

test('each sees and hears each', async () => {
  await Promise.all(pairs().map(([who, of]) => seesAndHears(who, of)));
});

test('each gets the encoding that it prefers', async () => {
  for (const [index, who] of everybody.entries()) {
    const of = everybody[(index + 1) % everybody.length]?.name.toLowerCase() ?? '';
    const width = () => who.page.evaluate((id) => window.client.width(id), of);
    const layer = () => who.page.evaluate((id) => window.client.layer(id), of);
    const prefer = (layer: number) => who.page.evaluate(([id, layer]) => window.client.prefer(id, layer), [of, layer] as const);
    await prefer(0);
    await eventually(`${who.name} gets the least of ${of}`, async () => (await width()) === LEAST_WIDTH && (await layer()) === 0);
    await prefer(2);
    await eventually(`${who.name} gets more of ${of}`, async () => (await width()) > LEAST_WIDTH && ((await layer()) ?? 0) > 0);
  }
});

test('each knows the names of the others, and what the server is', async () => {
  for (const { name, page } of everybody) {
    const others = everybody.map((other) => other.name).filter((other) => other !== name);
    await eventually(`${name} knows all`, async () => (await page.evaluate(() => window.client.names())).join() === others.sort().join());
    assert.match((await page.evaluate(() => window.client.serverVersion())) ?? '', /^\d+\.\d+\.\d+$/);
  }
});

test('whoever mutes is muted for all, and heard again', async () => {
  for (const muting of everybody) {
    const others = everybody.filter((other) => other !== muting);
    for (const muted of [true, false]) {
      await muting.page.evaluate((muted) => window.client.mute(muted), muted);
      for (const other of others) {
        await eventually(`${other.name} knows`, async () => (await paused(other, muting))['audio'] === muted);
      }
    }
  }
  await Promise.all(pairs().map(([who, of]) => seesAndHears(who, of)));
});

test('what is closed is closed for all', async () => {
  for (const closing of everybody) {
    await closing.page.evaluate(() => window.client.stopVideo());
    for (const other of everybody.filter((other) => other !== closing)) {
      await eventually(`${other.name} knows`, async () => !('video' in (await paused(other, closing))));
    }
  }
});

test('whoever leaves is gone for the others, and nobody complained', async () => {
  for (const { name, page } of everybody) assert.deepEqual(await page.evaluate(() => window.client.errors), [], name);
  const leaving = everybody.shift();
  await leaving?.page.evaluate(() => window.client.leave());
  for (const { name, page } of everybody) {
    await eventually(`${name} knows`, async () => !(await page.evaluate(() => window.client.names())).includes(leaving?.name ?? ''));
  }
});
