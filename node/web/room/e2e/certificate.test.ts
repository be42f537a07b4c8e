/** A certificate that is replaced while people use the node over HTTPS. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { connect, type PeerCertificate } from 'node:tls';
import { launch, type Browser } from '@sluice/web-kit/harness/browser';
import { eventually } from '@sluice/web-kit/harness/eventually';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { Person } from '../harness/person';

const ROOM = 'renewal';

const skip = spawnSync('openssl', ['version']).error ? 'openssl is not installed' : false;

const folder = mkdtempSync(join(tmpdir(), 'sluice-certificate-'));
const [certificate, key] = [join(folder, 'users.pem'), join(folder, 'users.key')];

let mesh: Mesh;
let browser: Browser;
let url: string;

/** Writes a new certificate with its key, and gives its serial number. */
function issue(): string {
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2'];
  const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const made = spawnSync('openssl', ['req', ...kind, ...subject, '-keyout', key, '-out', certificate]);
  assert.equal(made.status, 0, String(made.stderr));
  return new X509Certificate(readFileSync(certificate)).serialNumber;
}

/** The serial number of the certificate that a new connection is shown. */
async function shown(): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port: Number(new URL(url).port), rejectUnauthorized: false });
  await once(socket, 'secureConnect');
  const { serialNumber } = socket.getPeerCertificate() as PeerCertificate & { serialNumber: string };
  socket.destroy();
  return serialNumber;
}

/** Asks for something over a connection of its own, again and again until it is told to stop; gives how often that was answered. */
async function visit(stopped: () => boolean): Promise<number> {
  let answers = 0;
  while (!stopped()) {
    const asked = request(`${url}/healthz`, { rejectUnauthorized: false, agent: false }).end();
    const [response] = (await once(asked, 'response')) as [{ statusCode: number; resume(): void }];
    response.resume();
    assert.equal(response.statusCode, 200);
    answers++;
  }
  return answers;
}

before(async () => {
  if (skip) return;
  issue();
  mesh = await Mesh.processes('certificate', 1, ['--users-tls-cert', certificate, '--users-tls-key', key]);
  url = mesh.nodes[0]?.users.replace('http:', 'https:') ?? '';
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await mesh?.stop();
  rmSync(folder, { recursive: true });
});

test('newcomers are shown the new certificate, and nobody else notices', { skip }, async () => {
  const people = await Promise.all(['Alice', 'Bob'].map((name) => Person.join(browser, name, url, ROOM)));
  await Promise.all(people.map((person) => person.inRoom()));
  const [alice, bob] = people as [Person, Person];
  await Promise.all([alice.seesAndHears('Bob'), bob.seesAndHears('Alice')]);
  const sockets = people.map((person) => person.sockets);

  let stopped = false;
  const visitors = Array.from({ length: 4 }, () => visit(() => stopped));
  const renewed = issue();
  mesh.reloadNode(0);
  await eventually('the new certificate is shown', async () => (await shown()) === renewed);
  stopped = true;
  for (const answers of await Promise.all(visitors)) assert.ok(answers > 0, 'somebody came meanwhile');

  await Promise.all([alice.seesAndHears('Bob'), bob.seesAndHears('Alice')]);
  await alice.page.getByRole('button', { name: 'Mute microphone' }).click();
  await bob.tile('Alice').locator('.muted').waitFor({ state: 'visible' });
  assert.deepEqual(people.map((person) => person.sockets), sockets, 'nobody had to come back');
  const chen = await Person.join(browser, 'Chen', url, ROOM);
  await chen.inRoom();
  await chen.seesAndHears('Bob');
  assert.deepEqual([...people, chen].flatMap(({ errors }) => errors), []);
});
