/** Meshes to test against: one `sluice dev` process, or several `sluice node` processes with a CA of their own. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ARTIFACTS, BINARY } from './environment';
import { eventually } from './eventually';
import type { Namespace } from './namespace';

/** A node's ports are `base + 100 * index` and a few above: admin 0, users 3, media 4, mesh 5, gRPC 6. */
const PORT_STEP = 100;

/** How long a process may take to end when it is asked to. */
const STOP_WITHIN_MS = 10_000;

export interface NodeAddress {
  users: string;
  admin: string;
}

/** Where the nodes of a mesh are, if not where the test runs. */
export interface Elsewhere {
  namespace: Namespace;
  /** By which users, tests too, reach them there: a node each, or one of all. */
  addresses: [string, ...string[]];
  /** The one port of each node that users need, if it is that. */
  port?: number;
}

/** One running process of the binary. */
class Process {
  private constructor(
    private readonly child: ChildProcess,
    private readonly exited: Promise<unknown[]>,
  ) {}

  static start(name: string, args: string[], namespace?: Namespace): Process {
    const log = openSync(join(ARTIFACTS, `${name}.log`), 'a');
    const [command, ...rest] = namespace?.entering(BINARY, ...args) ?? [BINARY, ...args];
    const child = spawn(command, rest, { stdio: ['ignore', log, log], env: withoutSettings() });
    closeSync(log);
    return new Process(child, once(child, 'exit'));
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Ends it as Ctrl-C does; fails if that is not a clean end. */
  async stop(): Promise<void> {
    if (!this.running) return;
    this.child.kill('SIGINT');
    const overdue = setTimeout(() => this.child.kill('SIGKILL'), STOP_WITHIN_MS);
    const [code, signal] = await this.exited;
    clearTimeout(overdue);
    if (code !== 0) throw new Error(`the process ended with ${String(code ?? signal)} instead of 0`);
  }

  /** Lets it read its files again. */
  reload(): void {
    this.child.kill('SIGHUP');
  }

  /** Ends it without a chance to say goodbye. */
  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.exited;
  }
}

export class Mesh {
  private readonly processes: (Process | undefined)[] = [];
  private readonly folder = mkdtempSync(join(tmpdir(), 'sluice-e2e-'));

  private constructor(
    private readonly name: string,
    private readonly base: number,
    readonly nodes: NodeAddress[],
    private readonly settings: string[],
    private readonly elsewhere: Elsewhere | undefined,
  ) {}

  /** A mesh of `count` nodes in one process, and what paths between them are like that are not perfect. */
  static async dev(name: string, count: number, wan: string[] = []): Promise<Mesh> {
    const mesh = await Mesh.addressed(name, count);
    const paths = wan.flatMap((path) => ['--wan', path]);
    mesh.processes.push(Process.start(name, ['dev', '--nodes', String(count), '--base-port', String(mesh.port(0, 3)), ...paths]));
    return mesh.started();
  }

  /** A mesh of `count` processes, each with these settings besides. */
  static async processes(name: string, count: number, settings: string[] = [], elsewhere?: Elsewhere): Promise<Mesh> {
    const mesh = await Mesh.addressed(name, count, settings, elsewhere);
    sluice('ca', 'init', '--dir', mesh.folder);
    for (let index = 0; index < count; index++) {
      sluice('ca', 'issue', '--dir', mesh.folder, '--node', nodeId(index));
      mesh.startNode(index);
    }
    return mesh.started();
  }

  /** Starts the process of a node, again if it was killed. */
  startNode(index: number): void {
    const id = nodeId(index);
    const at = (offset: number) => `127.0.0.1:${this.port(index, offset)}`;
    const host = hostOf(index, this.elsewhere);
    const forUsers = (offset: number) => `${host}:${this.elsewhere?.port ?? this.port(index, offset)}`;
    const seeds = [...this.nodes.keys()].filter((other) => other !== index).map((other) => `127.0.0.1:${this.port(other, 5)}`);
    const args = [
      'node',
      ...['--id', id, '--region', `region-${index + 1}`, '--workers', '1'],
      ...['--users-listen', forUsers(3), '--media-listen', forUsers(4), '--mesh-listen', at(5), '--grpc-listen', at(6)],
      ...['--admin-listen', `${host}:${this.port(index, 0)}`, '--cluster-seeds', seeds.join(',')],
      ...(this.elsewhere ? ['--insecure-open', '--admin-insecure-open'] : []),
      ...['--mesh-ca', join(this.folder, 'ca.pem')],
      ...['--mesh-cert', join(this.folder, `${id}.pem`), '--mesh-key', join(this.folder, `${id}.key`)],
      ...this.settings,
    ];
    this.processes[index] = Process.start(`${this.name}-${id}`, args, this.elsewhere?.namespace);
  }

  /** Lets the process of a node read its files again. */
  reloadNode(index: number): void {
    this.processes[index]?.reload();
  }

  /** Kills the process of a node. */
  async killNode(index: number): Promise<void> {
    await this.processes[index]?.kill();
  }

  /** Waits until every node serves users and knows all others. */
  async ready(): Promise<void> {
    for (const node of this.nodes) {
      await eventually(`${node.users} is ready`, async () => (await fetch(`${node.admin}/readyz`)).ok);
      await eventually(`${node.users} knows all nodes`, async () => {
        const cluster = (await (await fetch(`${node.admin}/v1/cluster`)).json()) as { members: { state: string }[] };
        return cluster.members.filter(({ state }) => state === 'live').length === this.nodes.length;
      });
    }
  }

  async stop(): Promise<void> {
    try {
      for (const process of this.processes) await process?.stop();
    } finally {
      for (const process of this.processes) if (process?.running) await process.kill();
      rmSync(this.folder, { recursive: true });
    }
  }

  private async started(): Promise<Mesh> {
    try {
      await this.ready();
      return this;
    } catch (error) {
      await this.stop().catch(() => {});
      throw error;
    }
  }

  private static async addressed(name: string, count: number, settings: string[] = [], elsewhere?: Elsewhere): Promise<Mesh> {
    const base = await freeBase(count);
    const nodes = Array.from({ length: count }, (_, index) => ({
      users: `http://${hostOf(index, elsewhere)}:${elsewhere?.port ?? base + index * PORT_STEP + 3}`,
      admin: `http://${hostOf(index, elsewhere)}:${base + index * PORT_STEP}`,
    }));
    return new Mesh(name, base, nodes, settings, elsewhere);
  }

  private port(index: number, offset: number): number {
    return this.base + index * PORT_STEP + offset;
  }
}

/** Runs a command of the binary to its end and gives what it prints. */
export function sluice(...args: string[]): string {
  return execFileSync(BINARY, args, { stdio: ['ignore', 'pipe', 'inherit'], env: withoutSettings(), encoding: 'utf8' });
}

/** The environment without settings of the binary's: a test's node is set up by the test alone. */
function withoutSettings(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('SLUICE_')));
}

/** A node's host, as URLs have it. */
function hostOf(index: number, elsewhere: Elsewhere | undefined): string {
  const { addresses } = elsewhere ?? { addresses: ['127.0.0.1'] };
  const address = addresses[index % addresses.length] ?? '';
  return address.includes(':') ? `[${address}]` : address;
}

function nodeId(index: number): string {
  return `node-${index + 1}`;
}

/** A base port whose TCP ports are free at the moment, away from those that the system gives to connections. */
async function freeBase(count: number): Promise<number> {
  for (let attempt = 0; attempt < 50; attempt++) {
    const base = 10_000 + Math.floor(Math.random() * 180) * 100;
    const ports = Array.from({ length: count }, (_, index) => [0, 3, 6].map((offset) => base + index * PORT_STEP + offset));
    if ((await Promise.all(ports.flat().map(isFree))).every(Boolean)) return base;
  }
  throw new Error('no free ports were found');
}

/** A TCP port that is free at the moment. */
export async function freePort(): Promise<number> {
  return (await freeBase(1)) + 3;
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
