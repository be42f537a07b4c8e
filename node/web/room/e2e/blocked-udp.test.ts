/**
 * A network that lets no UDP through for a while, as one does that people walk out of and back into.
 *
 * All of it, node and browser included, is in a network namespace that the test makes, where blocking harms nobody: the file
 * runs itself in there.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { launch, type Browser } from '@sluice/web-kit/harness/browser';
import { eventually } from '@sluice/web-kit/harness/eventually';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { Person } from '../harness/person';

const ROOM = 'tunnel';

/** Says to the file that it runs in the namespace. */
const INSIDE = 'E2E_IN_NAMESPACE';

/** ICE gives a path up after 30 s without a sign of life (RFC 7675 section 5.1). */
const BLOCKED_MS = 25_000;

function missing(): string | false {
  if (process.getuid?.() !== 0) return 'only root makes network namespaces';
  const tools = ['ip', 'nft'].filter((tool) => spawnSync(tool, ['-V']).error);
  if (tools.length > 0) return `not installed: ${tools.join(', ')}`;
  const probe = `sluice-probe-${process.pid}`;
  if (spawnSync('ip', ['netns', 'add', probe]).status !== 0) return 'network namespaces cannot be made here';
  execFileSync('ip', ['netns', 'del', probe]);
  return false;
}

function outside(): void {
  test('a call survives 25 s without UDP', { skip: missing() }, () => {
    const namespace = `sluice-e2e-${process.pid}`;
    const ip = (...args: string[]) => execFileSync('ip', args, { stdio: 'inherit' });
    ip('netns', 'add', namespace);
    try {
      ip('-n', namespace, 'link', 'set', 'lo', 'up');
      // Browsers send no media from a machine that has no network at all.
      ip('-n', namespace, 'link', 'add', 'near', 'type', 'veth', 'peer', 'name', 'far');
      ip('-n', namespace, 'address', 'add', '192.0.2.1/24', 'dev', 'near');
      for (const end of ['near', 'far']) ip('-n', namespace, 'link', 'set', end, 'up');
      ip('-n', namespace, 'route', 'add', 'default', 'dev', 'near');
      const { NODE_TEST_CONTEXT: _context, ...environment } = process.env;
      const self = [process.execPath, '--enable-source-maps', '--test-reporter=spec', process.argv[1] ?? ''];
      const run = spawnSync('ip', ['netns', 'exec', namespace, ...self], { stdio: 'inherit', env: { ...environment, [INSIDE]: '1' } });
      assert.equal(run.status, 0);
    } finally {
      ip('netns', 'del', namespace);
    }
  });
}

function inside(): void {
  let mesh: Mesh;
  let browser: Browser;

  before(async () => {
    mesh = await Mesh.processes('blocked-udp', 1);
    browser = await launch();
  });

  after(async () => {
    await browser?.close();
    await mesh?.stop();
  });

  test('the call goes on when UDP is back, and nobody has left', async () => {
    const people = ['Alice', 'Bob'].map((name) => Person.join(browser, name, mesh.nodes[0]?.users ?? '', ROOM));
    const [alice, bob] = (await Promise.all(people)) as [Person, Person];
    await Promise.all([alice.inRoom(), bob.inRoom()]);
    await Promise.all([alice.seesAndHears('Bob'), bob.seesAndHears('Alice')]);
    await Promise.all([alice.markTile('Bob'), bob.markTile('Alice')]);
    const sockets = [alice.sockets, bob.sockets];

    const blocked = performance.now();
    execFileSync('nft', ['add', 'table', 'inet', 'tunnel']);
    execFileSync('nft', ['add', 'chain', 'inet', 'tunnel', 'input', '{ type filter hook input priority 0; }']);
    execFileSync('nft', ['add', 'rule', 'inet', 'tunnel', 'input', 'meta', 'l4proto', 'udp', 'drop']);
    await alice.page.getByText('Media interrupted, repairing…').waitFor();
    await alice.screenshot('media-interrupted');
    await eventually('it was blocked for long', () => performance.now() > blocked + BLOCKED_MS, 2 * BLOCKED_MS);
    execFileSync('nft', ['delete', 'table', 'inet', 'tunnel']);

    await Promise.all([alice.seesAndHears('Bob'), bob.seesAndHears('Alice')]);
    assert.ok((await alice.hasMarkedTile('Bob')) && (await bob.hasMarkedTile('Alice')), 'nobody has left');
    assert.deepEqual([alice.sockets, bob.sockets], sockets, 'nobody had to come back');
    assert.deepEqual([...alice.errors, ...bob.errors], []);
  });
}

if (process.env[INSIDE]) inside();
else outside();
