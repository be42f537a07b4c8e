/** Clients of both dialects, with three versions of mediasoup-client, and the room page write to each other in a room of two nodes. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, type Browser, type Page } from '@sluice/web-kit/harness/browser';
import { eventually } from '@sluice/web-kit/harness/eventually';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { Participant } from '../harness/participant';
import type { Dialect } from '../src/client';
import type { Version } from '../src/page';

const ROOM = 'chat';

let mesh: Mesh;
let browser: Browser;
/** The room page, of which the peer has this id. */
let page: Page;
const PAGE_ID = 'paige';
const everybody: Participant[] = [];

const node = (index: number): string => mesh.nodes[index]?.users ?? '';

before(async () => {
  mesh = await Mesh.dev('demo-chat', 2);
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await mesh?.stop();
});

async function join(name: string, version: Version, dialect: Dialect, index: number): Promise<void> {
  const participant = await Participant.open(await browser.newPage(), name, node(index));
  await participant.join({ version, dialect, room: ROOM, sends: 'nothing', data: true });
  everybody.push(participant);
}

function others(of: Participant): Participant[] {
  return everybody.filter((other) => other !== of);
}

/** The texts on the room page, each with its writer's name. */
function shown(): Promise<string[]> {
  return page.locator('.message').evaluateAll((messages) =>
    messages.map((message) => `${message.querySelector('b')?.textContent}: ${message.querySelector('.message-text')?.textContent}`),
  );
}

async function write(text: string): Promise<void> {
  const field = page.getByLabel('Message to everybody');
  await field.fill(text);
  await field.press('Enter');
}

test('clients of three versions and two dialects join with data channels, and the room page', async () => {
  await join('Present', '3.24.1', 'ts', 0);
  await join('Later', '3.7.16', 'v3', 0);
  await join('Old', '3.6.103', 'v3', 1);
  page = await browser.newPage();
  const query = { roomId: ROOM, displayName: 'Paige', peerId: PAGE_ID, audio: '0', video: '0' };
  await page.goto(`${node(1)}/?${new URLSearchParams(query)}`);
  await page.getByRole('button', { name: 'Chat', exact: true }).click();
  for (const { name } of everybody) await page.locator('.tile', { hasText: name }).waitFor();
});

test('each reads what each writes', async () => {
  for (const writer of everybody) {
    for (const reader of others(writer)) await reader.listensTo(writer.id);
    // Of the channel of version 3, which sends twice at most, on this machine nothing is lost.
    await writer.write(`from ${writer.name}`);
    for (const reader of others(writer)) {
      await eventually(`${reader.name} reads`, async () => (await reader.written(writer.id)).join() === `from ${writer.name}`);
    }
    await eventually('the page shows it', async () => (await shown()).includes(`${writer.name}: from ${writer.name}`));
  }
});

test('what the room page writes is text for all of them', async () => {
  await write('from Paige, 👋');
  for (const reader of everybody) {
    await eventually(`${reader.name} reads`, async () => (await reader.written(PAGE_ID)).join() === 'from Paige, 👋');
  }
});

test('what the page says of hands and reactions bothers none of them, and nobody complained', async () => {
  await page.getByRole('button', { name: 'Raise your hand' }).click();
  await page.getByRole('button', { name: 'React' }).click();
  await page.getByRole('button', { name: 'Heart' }).click();
  await write('and more');
  for (const reader of everybody) {
    await eventually(`${reader.name} reads`, async () => (await reader.written(PAGE_ID)).join() === 'from Paige, 👋,and more');
    assert.deepEqual(await reader.errors(), [], reader.name);
  }
});
