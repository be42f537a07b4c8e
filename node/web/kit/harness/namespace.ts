/**
 * Two networks of a test's own, with a cable between them: what the test does to them harms nobody. Only root makes them, with the
 * kernel's network namespaces.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { test } from 'node:test';

/** Says to a file that it runs in such a network, and what the name of the other one is. */
const INSIDE = 'E2E_OTHER_NETWORK';

/** Addresses for documentation (RFC 5737). */
export const HOME_ADDRESS = '192.0.2.2';
export const WORLD_ADDRESS = '192.0.2.1';

/** The network device at both ends of the cable. */
export const CABLE = 'cable';

/** A network namespace. */
export class Namespace {
  constructor(readonly name: string) {}

  /** The command that runs a command in here. */
  entering(...command: string[]): [string, ...string[]] {
    return ['ip', 'netns', 'exec', this.name, ...command];
  }

  /** Runs a command in here to its end. */
  run(...command: string[]): void {
    const [ip, ...rest] = this.entering(...command);
    execFileSync(ip, rest, { stdio: 'inherit' });
  }
}

/**
 * Defines tests that run in the network `home`, whose cable leads to `world`; all of it is one test of this title to whoever runs the
 * file, which runs itself again in there. It is skipped where there is no such network to be had, or one of these `tools`.
 */
export function atHome(title: string, tools: string[], tests: (world: Namespace) => void): void {
  const world = process.env[INSIDE];
  if (world) tests(new Namespace(world));
  else test(title, { skip: missing(['ip', ...tools]) }, runAtHome);
}

function missing(tools: string[]): string | false {
  if (process.getuid?.() !== 0) return 'only root makes network namespaces';
  const absent = tools.filter((tool) => spawnSync(tool, ['-V']).error);
  if (absent.length > 0) return `not installed: ${absent.join(', ')}`;
  const probe = `sluice-probe-${process.pid}`;
  if (spawnSync('ip', ['netns', 'add', probe]).status !== 0) return 'network namespaces cannot be made here';
  ip('netns', 'del', probe);
  return false;
}

function runAtHome(): void {
  const [home, world] = ['home', 'world'].map((name) => new Namespace(`sluice-${name}-${process.pid}`)) as [Namespace, Namespace];
  const ends = [
    { name: home.name, address: HOME_ADDRESS },
    { name: world.name, address: WORLD_ADDRESS },
  ];
  try {
    for (const { name } of ends) ip('netns', 'add', name);
    ip('-n', home.name, 'link', 'add', CABLE, 'type', 'veth', 'peer', 'name', CABLE, 'netns', world.name);
    for (const { name, address } of ends) {
      ip('-n', name, 'address', 'add', `${address}/24`, 'dev', CABLE);
      for (const device of ['lo', CABLE]) ip('-n', name, 'link', 'set', device, 'up');
    }
    // Browsers send no media from a machine that cannot reach others.
    for (const { name } of ends) ip('-n', name, 'route', 'add', 'default', 'dev', CABLE);
    const self = home.entering(process.execPath, '--enable-source-maps', '--test-reporter=spec', process.argv[1] ?? '');
    const { NODE_TEST_CONTEXT: _context, ...environment } = process.env;
    const run = spawnSync(self[0], self.slice(1), { stdio: 'inherit', env: { ...environment, [INSIDE]: world.name } });
    assert.equal(run.status, 0);
  } finally {
    for (const { name } of ends) spawnSync('ip', ['netns', 'del', name]);
  }
}

/** Changes what network devices, addresses and routes there are where the test runs. */
export function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: 'inherit' });
}

/** Changes what the firewall lets through where the test runs. */
export function nft(...args: string[]): void {
  execFileSync('nft', args, { stdio: 'inherit' });
}
