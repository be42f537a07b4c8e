/** Clients of both dialects, with three versions of mediasoup-client, meet in a room of two nodes. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, type Browser } from '@sluice/web-kit/harness/browser';
import { eventually } from '@sluice/web-kit/harness/eventually';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { Participant } from '../harness/participant';
import type { Dialect } from '../src/client';
import type { Version } from '../src/page';

const ROOM = 'dialects';

/** Of the encoding that is a quarter as wide as the camera's picture. */
const LEAST_WIDTH = 160;

let mesh: Mesh;
let browser: Browser;
const everybody: Participant[] = [];

before(async () => {
  mesh = await Mesh.dev('dialects', 2);
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await mesh?.stop();
});

async function join(name: string, version: Version, dialect: Dialect, node: number): Promise<void> {
  const participant = await Participant.open(await browser.newPage(), name, mesh.nodes[node]?.users ?? '');
  await participant.join({ version, dialect, room: ROOM });
  everybody.push(participant);
}

function paused(who: Participant, of: Participant): Promise<Record<string, boolean>> {
  return who.page.evaluate((id: string) => window.client.paused(id), of.id);
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
  await Promise.all(pairs().map(([who, of]) => who.seesAndHears(of)));
  for (const [who, of] of pairs()) {
    assert.deepEqual([await who.consumerType(of, 'video'), await who.consumerType(of, 'audio')], ['simulcast', 'simple'], who.name);
  }
});

test('each gets the encoding that it prefers', async () => {
  for (const [index, who] of everybody.entries()) {
    const of = everybody[(index + 1) % everybody.length] ?? who;
    await who.prefer(of, 0);
    await eventually(
      `${who.name} gets the least of ${of.name}`,
      async () => (await who.width(of)) === LEAST_WIDTH && (await who.layer(of)) === 0,
    );
    await who.prefer(of, 2);
    await eventually(
      `${who.name} gets more of ${of.name}`,
      async () => (await who.width(of)) > LEAST_WIDTH && ((await who.layer(of)) ?? 0) > 0,
    );
  }
});

test('each knows the names of the others, and what the server is', async () => {
  for (const { name, page } of everybody) {
    const others = everybody.map((other) => other.name).filter((other) => other !== name);
    await eventually(`${name} knows all`, async () => (await page.evaluate(() => window.client.names(), undefined)).join() === others.sort().join());
    assert.match((await page.evaluate(() => window.client.serverVersion(), undefined)) ?? '', /^\d+\.\d+\.\d+$/);
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
  await Promise.all(pairs().map(([who, of]) => who.seesAndHears(of)));
});

test('what is closed is closed for all', async () => {
  for (const closing of everybody) {
    await closing.page.evaluate(() => window.client.stopVideo(), undefined);
    for (const other of everybody.filter((other) => other !== closing)) {
      await eventually(`${other.name} knows`, async () => !('video' in (await paused(other, closing))));
    }
  }
});

test('whoever leaves is gone for the others, and nobody complained', async () => {
  for (const participant of everybody) assert.deepEqual(await participant.errors(), [], participant.name);
  const leaving = everybody.shift();
  await leaving?.leave();
  for (const { name, page } of everybody) {
    await eventually(`${name} knows`, async () => !(await page.evaluate(() => window.client.names(), undefined)).includes(leaving?.name ?? ''));
  }
});
