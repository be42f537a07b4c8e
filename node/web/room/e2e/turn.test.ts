/** People whose network lets out nothing but TCP to the port of the page. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { launch, type Browser } from '@sluice/web-kit/harness/browser';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { Person } from '../harness/person';

const ROOM = 'detour';

/** Takes what is sent to the node's media port by UDP, and answers nothing. */
const silence = createSocket('udp4');
let mesh: Mesh;
let browser: Browser;

before(async () => {
  silence.bind(0, '127.0.0.1');
  await once(silence, 'listening');
  mesh = await Mesh.processes('turn', 1, ['--media-announced', `127.0.0.1:${silence.address().port}`]);
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await mesh?.stop();
  silence.close();
});

test('they see and hear each other, whether they tried UDP or not', async () => {
  const node = mesh.nodes[0]?.users ?? '';
  const alice = await Person.join(browser, 'Alice', node, ROOM);
  const bob = await Person.join(browser, 'Bob', node, ROOM, { iceTransportPolicy: 'relay' });
  await Promise.all([alice.inRoom(), bob.inRoom()]);
  await Promise.all([alice.seesAndHears('Bob'), bob.seesAndHears('Alice')]);
  assert.deepEqual([...alice.errors, ...bob.errors], []);
});
