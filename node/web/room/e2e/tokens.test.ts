/** A node with tenants: people enter with tokens, and those who may not are told why. */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, type Browser } from '@sluice/web-kit/harness/browser';
import { Mesh, sluice } from '@sluice/web-kit/harness/mesh';
import { Person } from '../harness/person';

const ROOM = 'standup';
const SECRET = 'a-secret-that-only-this-test-knows';

const folder = mkdtempSync(join(tmpdir(), 'sluice-tokens-'));
const config = join(folder, 'node.toml');

let mesh: Mesh;
let browser: Browser;

/** What the node reads: two tenants, one of which has taken these tokens back. */
function configure(revoked: string[]): void {
  const key = (secret: string) => `id = "test"\nalgorithm = "HS256"\nsecret = "${secret}"\n`;
  writeFileSync(
    config,
    `[namespaces.acme]\nrevoked = ${JSON.stringify(revoked)}\n[[namespaces.acme.keys]]\n${key(SECRET)}
[namespaces.other]\n[[namespaces.other.keys]]\n${key(`${SECRET}-too`)}`,
  );
}

/** A token for the room, as the tenant's own server would make it. */
function mint(identity: string, name: string, more: string[] = []): string {
  const who = ['--namespace', 'acme', '--room', ROOM, '--identity', identity, '--name', name];
  return sluice('token', '--config', config, ...who, ...more).trim();
}

/** A token that `sluice token` does not make. */
function sign(claims: object, secret: string): string {
  const header = { alg: 'HS256', typ: 'JWT', kid: 'test' };
  const text = [header, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`;
}

/** Opens the room with this token. The address says no more. */
function enter(name: string, token: string | undefined, more: Record<string, string> = {}): Promise<Person> {
  const query = new URLSearchParams({ roomId: ROOM, ...(token && { token }), ...more });
  return Person.open(browser, name, `${mesh.nodes[0]?.users}/?${query}`);
}

before(async () => {
  configure([]);
  mesh = await Mesh.processes('tokens', 1, ['--config', config]);
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await mesh?.stop();
  rmSync(folder, { recursive: true });
});

test('a token lets its holder in at once, under the name that it says', async () => {
  const [ann, ben] = await Promise.all([enter('Ann', mint('ann', 'Ann')), enter('Ben', mint('ben', 'Ben'), { displayName: 'Benno' })]);
  await Promise.all([ann.inRoom(), ben.inRoom()]);
  await Promise.all([ann.seesAndHears('Ben'), ben.seesAndHears('Ann')]);
  const kept = await ann.page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]));
  assert.ok(!kept.includes('eyJ'), `a token is kept nowhere: ${kept}`);
  assert.deepEqual([...ann.errors, ...ben.errors], []);
  await Promise.all([ann.close(), ben.close()]);
});

test('whoever has no valid token is told what is wrong with it', async () => {
  const claims = { namespace: 'acme', room: ROOM, sub: 'mallory', exp: Math.floor(Date.now() / 1_000) + 3_600 };
  const cases: [string, string | undefined, Record<string, string>, string][] = [
    ['none', undefined, { namespace: 'acme' }, 'a token is needed'],
    ['expired', sign({ ...claims, exp: claims.exp - 7_200 }, SECRET), {}, 'the token has expired'],
    ['forged', sign(claims, `${SECRET}?`), {}, "the token's signature is wrong"],
    ['other-room', sign({ ...claims, room: 'another' }, SECRET), {}, 'the token is of another room'],
    ['other-namespace', sign(claims, SECRET), { namespace: 'other' }, "the token's key is not known"],
    ['other-peer', sign(claims, SECRET), { peerId: 'eve' }, 'the token is of another peer'],
  ];
  for (const [name, token, more, words] of cases) {
    const mallory = await enter('Mallory', token, { displayName: 'Mallory', ...more });
    const refusal = mallory.page.getByRole('alertdialog', { name: 'The server did not let you in' });
    await refusal.getByText(words).waitFor();
    await mallory.screenshot(`token-${name}`);
    await mallory.close();
  }
});

test('whoever comes again with the same identity takes the place of the first', async () => {
  const token = mint('ann', 'Ann');
  const first = await enter('Ann', token);
  await first.inRoom();
  const second = await enter('Ann', token);
  await second.inRoom();
  await first.page.getByRole('alertdialog', { name: 'You joined from another tab' }).waitFor();
  assert.equal(await second.state(), 'joined');
  await Promise.all([first.close(), second.close()]);
});

test('whose token is revoked is sent away, and does not come in again', async () => {
  const ann = await enter('Ann', mint('ann', 'Ann', ['--id', 'of-ann']));
  const ben = await enter('Ben', mint('ben', 'Ben'));
  await Promise.all([ann.inRoom(), ben.inRoom()]);
  await ben.tile('Ann').waitFor();
  configure(['of-ann']);
  mesh.reloadNode(0);
  const { page } = ann;
  await page.getByRole('alertdialog', { name: 'The server ended your visit' }).getByText('the token was revoked').waitFor();
  await ann.screenshot('token-revoked');
  await ben.tile('Ann').waitFor({ state: 'detached' });
  await page.getByRole('button', { name: 'Join again' }).click();
  await page.getByRole('alertdialog', { name: 'The server did not let you in' }).getByText('the token was revoked').waitFor();
  assert.equal(await ben.state(), 'joined');
  assert.deepEqual(ben.errors, []);
});
