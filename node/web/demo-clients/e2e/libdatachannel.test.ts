/** Clients of libdatachannel, whose SCTP is usrsctp, write to each other and to a browser in a room of two nodes. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, type Browser } from '@sluice/web-kit/harness/browser';
import { eventually } from '@sluice/web-kit/harness/eventually';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { cleanup, type DataChannel } from 'node-datachannel';
import { LibdatachannelClient, type Message } from '../harness/libdatachannel';
import { Participant } from '../harness/participant';

const ROOM = 'libdatachannel';

/** How many messages show that a channel that may lose them does not lose all. */
const SOME = 20;

let mesh: Mesh;
let browser: Browser | undefined;
let ann: LibdatachannelClient;
let ben: LibdatachannelClient;
/** Ann's first channel, which stays. */
let annWrites: DataChannel;

const node = (index: number): string => mesh.nodes[index]?.users ?? '';

before(async () => {
  mesh = await Mesh.dev('libdatachannel', 2);
  ann = await LibdatachannelClient.join('Ann', node(0), ROOM);
  ben = await LibdatachannelClient.join('Ben', node(1), ROOM);
});

after(async () => {
  ann?.leave();
  ben?.leave();
  cleanup();
  await browser?.close();
  await mesh?.stop();
});

function say(channel: DataChannel, message: Message): void {
  if (typeof message === 'string') channel.sendMessage(message);
  else channel.sendMessageBinary(message);
}

/** Bytes that are not all the same. */
function bytes(length: number): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, index) => index % 251));
}

test('all that is said on an ordered channel arrives as it was, both ways', async () => {
  annWrites = await ann.produce('words');
  for (const [writer, channel, listener] of [[ann, annWrites, ben], [ben, await ben.produce('words'), ann]] as const) {
    const { messages } = await listener.hears(writer.id, 'words');
    const said: Message[] = ['text, 👋', bytes(3), '', bytes(0), 'long '.repeat(20 * 1024), bytes(writer.maxMessageSize), 'the last'];
    for (const message of said) say(channel, message);
    await eventually(`${listener.name} hears all of it`, () => messages.length >= said.length);
    assert.deepEqual(messages, said);
  }
});

test('of what is said once on an unordered channel some arrives, none of it twice', async () => {
  const channel = await ann.produce('once', { unordered: true, maxRetransmits: 0 });
  const { messages } = await ben.hears(ann.id, 'once');
  const said: string[] = [];
  await eventually('Ben hears some of it', () => {
    said.push(`number ${said.length}`);
    say(channel, said.at(-1) ?? '');
    return messages.length >= SOME;
  });
  assert.equal(new Set(messages).size, messages.length, 'none came twice');
  assert.ok(messages.every((message) => typeof message === 'string' && said.includes(message)), 'nothing else came');
});

test('a channel that is closed ends at the other side, and the others go on', async () => {
  const channel = await ann.produce('short');
  const heard = await ben.hears(ann.id, 'short');
  say(channel, 'the only one');
  await eventually('Ben hears it', () => heard.messages.length === 1);
  channel.close();
  await eventually('Ben is told', () => heard.told && heard.reset);
  const { messages } = await ben.hears(ann.id, 'words');
  say(annWrites, 'still there');
  await eventually('Ben hears Ann', () => messages.at(-1) === 'still there');
});

test('who closes what it listens to hears no more of it, and whoever writes is not bothered', async () => {
  const channel = await ann.produce('unwanted');
  const heard = await ben.hears(ann.id, 'unwanted');
  heard.close();
  await eventually('Ben is told', () => heard.told && heard.reset);
  say(channel, 'unheard');
  const { messages } = await ben.hears(ann.id, 'words');
  say(annWrites, 'heard');
  await eventually('Ben hears Ann', () => messages.at(-1) === 'heard');
  assert.ok(channel.isOpen());
  assert.deepEqual(heard.messages, []);
});

test('a browser and they write to each other', async () => {
  browser = await launch();
  const carl = await Participant.open(await browser.newPage(), 'Carl', node(1));
  await carl.join({ room: ROOM, sends: 'nothing', data: true });
  const chat = await ann.produce('chat');
  await carl.listensTo(ann.id);
  say(chat, 'from Ann');
  await eventually('Carl reads', async () => (await carl.written(ann.id)).join() === 'from Ann');
  // Of the channel of version 3, which sends twice at most, on this machine nothing is lost.
  await carl.write('from Carl');
  for (const listener of [ann, ben]) {
    const { messages } = await listener.hears(carl.id, 'chat');
    await eventually(`${listener.name} hears Carl`, () => messages.join() === 'from Carl');
  }
});
