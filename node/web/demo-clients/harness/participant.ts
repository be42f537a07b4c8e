/** Clients of mediasoup-demo's dialects, in pages of any browser. */
import type { AnyPage } from '@sluice/web-kit/harness/browser';
import { eventually } from '@sluice/web-kit/harness/eventually';
import { build } from 'esbuild';
import type { Options, Progress } from '../src/client';
import type { Version } from '../src/page';

type Kind = 'audio' | 'video';

let script: Promise<string> | undefined;

/** What runs in the pages. */
async function bundled(): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: ['src/page.ts'],
    bundle: true,
    write: false,
    format: 'iife',
    target: ['chrome111', 'firefox120'],
    logLevel: 'warning',
  });
  return outputFiles[0]?.text ?? '';
}

export interface Joining extends Omit<Options, 'dialect' | 'node' | 'name'>, Partial<Pick<Options, 'dialect'>> {
  version?: Version;
}

export class Participant {
  private joined = false;

  private constructor(
    readonly name: string,
    readonly page: AnyPage,
    private readonly node: string,
  ) {}

  /** Opens a page of the node's. */
  static async open(page: AnyPage, name: string, node: string): Promise<Participant> {
    // Any: it may connect, and has devices.
    await page.goto(`${node}/healthz`);
    await page.evaluate(await (script ??= bundled()), undefined);
    return new Participant(name, page, node);
  }

  /** What the peer is called, among clients. */
  get id(): string {
    return this.name.toLowerCase();
  }

  /** Joins a room, again if it has left another. */
  async join({ version = '3.24.1', dialect = 'v3', ...options }: Joining): Promise<void> {
    const { node, name } = this;
    await this.page.evaluate(
      ([version, options]: [Version, Options]) => window.join(version, options),
      [version, { ...options, dialect, node, name }],
    );
    this.joined = true;
  }

  /** Leaves the room, if it is in one. */
  async leave(): Promise<void> {
    if (this.joined) await this.page.evaluate(() => window.client.leave(), undefined);
    this.joined = false;
  }

  /** What was not as it should be. */
  errors(): Promise<string[]> {
    return this.page.evaluate(() => window.client.errors, undefined);
  }

  /** What the browser tells of the stream from another. */
  received({ id }: Participant, kind: Kind): Promise<Record<string, unknown>> {
    return this.page.evaluate(([id, kind]: [string, Kind]) => window.client.received(id, kind), [id, kind]);
  }

  consumerType({ id }: Participant, kind: Kind): Promise<string | undefined> {
    return this.page.evaluate(([id, kind]: [string, Kind]) => window.client.consumerType(id, kind), [id, kind]);
  }

  /** How wide the picture of another is that was decoded last. */
  async width(of: Participant): Promise<number> {
    return Number((await this.received(of, 'video'))['frameWidth'] ?? 0);
  }

  /** The spatial layer that the server says it sends of another's picture. */
  layer({ id }: Participant): Promise<number | undefined> {
    return this.page.evaluate((id: string) => window.client.layer(id), id);
  }

  /** Wants no better picture of another than this. */
  prefer({ id }: Participant, spatialLayer: number, temporalLayer?: number): Promise<void> {
    return this.page.evaluate(
      ([id, spatial, temporal]: [string, number, number | undefined]) => window.client.prefer(id, spatial, temporal),
      [id, spatialLayer, temporalLayer],
    );
  }

  /** Counts how long there is no new picture of another, from now on. */
  watch({ id }: Participant): Promise<void> {
    return this.page.evaluate((id: string) => window.client.watch(id), id);
  }

  longestGapMs({ id }: Participant): Promise<number> {
    return this.page.evaluate((id: string) => window.client.longestGapMs(id), id);
  }

  progress({ id }: Participant): Promise<Progress> {
    return this.page.evaluate((id: string) => window.client.progress(id), id);
  }

  /** Writes in the chat. */
  async write(text: string): Promise<void> {
    await eventually(`${this.name} can write`, () => this.page.evaluate(() => window.client.canWrite(), undefined));
    await this.page.evaluate((text: string) => window.client.write(text), text);
  }

  /** Waits until what a peer writes can arrive. */
  async listensTo(peerId: string): Promise<void> {
    await eventually(`${this.name} listens to ${peerId}`, () => this.page.evaluate((id: string) => window.client.canRead(id), peerId));
  }

  /** What a peer has written. */
  written(peerId: string): Promise<string[]> {
    return this.page.evaluate((id: string) => window.client.written(id), peerId);
  }

  /** Waits until more frames and more sound of another have arrived than now. */
  async seesAndHears(of: Participant, frames = 10): Promise<void> {
    const before = await this.progress(of);
    await eventually(
      `${this.name} sees and hears ${of.name}`,
      async () => {
        const now = await this.progress(of);
        return now.frames > before.frames + frames && now.energy > before.energy;
      },
      30_000,
    );
  }
}
