/**
 * What a session says to the server and hears from it. A WebSocket that breaks is replaced by another one, on which the
 * server goes on where the former ended: whoever asks for something meanwhile waits a little longer.
 */
import { refusalOf } from './admission';
import { Emitter } from './emitter';
import { deferred, delay } from './promises';
import { ConnectionLost, Protoo, type Closed, type RequestHandler } from './protoo';

/** For so long the server keeps the place of a peer whose connection broke, by default. */
const RESUME_WITHIN_MS = 15_000;

/** Between an attempt to come back that failed and the next one. */
const RETRY_MS = 1_000;

/** An interruption that is over sooner need not be told of. */
const NOTICED_AFTER_MS = 1_000;

/** The connection ended without a close frame (RFC 6455 section 7.1.5): nobody wanted that. */
const BROKEN = 1006;

type Events = {
  notification: { method: string; data: never };
  /** The connection has been away for a moment, or is back. */
  interrupted: boolean;
  close: Closed;
};

export class Signalling extends Emitter<Events> {
  private connection = deferred<Protoo>();
  private latest: Protoo | undefined;
  /** Of an interruption. */
  private timers: ReturnType<typeof setTimeout>[] = [];
  private keepsPlace = false;
  private closed = false;

  /**
   * Opens the first WebSocket. `url` gives the address, of one that resumes or of one that does not.
   *
   * Rejects with a {@link RequestError} if the server says why it lets nobody in, else because it cannot be reached.
   */
  static async open(url: (resumes: boolean) => string, handler: RequestHandler): Promise<Signalling> {
    const signalling = new Signalling(url, handler);
    try {
      signalling.use(await signalling.connect(false));
    } catch (error) {
      throw (await refusalOf(url(false))) ?? error;
    }
    return signalling;
  }

  private constructor(
    private readonly url: (resumes: boolean) => string,
    private readonly handler: RequestHandler,
  ) {
    super();
  }

  /** From now on the server has something to go on with, and a connection that breaks is replaced. */
  keepPlace(): void {
    this.keepsPlace = true;
  }

  /** Sends a request as {@link Protoo.request} does, and once more if the connection breaks before it is answered. */
  async request<Response>(method: string, data: object = {}): Promise<Response> {
    for (;;) {
      try {
        return await this.requestOnce<Response>(method, data);
      } catch (error) {
        if (!(error instanceof ConnectionLost) || this.closed) throw error;
      }
    }
  }

  /** Sends a request that would have another effect if it was repeated. */
  async requestOnce<Response>(method: string, data: object = {}): Promise<Response> {
    const protoo = await this.connection.promise;
    return protoo.request<Response>(method, data);
  }

  close(): void {
    this.end({ code: 1000, reason: '' });
  }

  private async connect(resumes: boolean): Promise<Protoo> {
    const protoo = await Protoo.open(this.url(resumes), this.handler);
    this.latest = protoo;
    protoo.on('notification', (notification) => this.emit('notification', notification));
    protoo.on('close', (closed) => {
      if (!this.keepsPlace || closed.code !== BROKEN) this.end(closed);
    });
    // It was opened for somebody who is gone.
    if (this.closed) protoo.close();
    return protoo;
  }

  private use(protoo: Protoo): void {
    this.connection.resolve(protoo);
    protoo.on('close', (closed) => {
      if (!this.closed) void this.resume(closed);
    });
  }

  private async resume(broken: Closed): Promise<void> {
    this.connection = deferred();
    this.timers = [
      setTimeout(() => this.emit('interrupted', true), NOTICED_AFTER_MS),
      setTimeout(() => this.end(broken), RESUME_WITHIN_MS),
    ];
    let protoo = await this.resumed();
    while (!protoo && !this.closed) {
      await delay(RETRY_MS);
      protoo = await this.resumed();
    }
    if (this.closed || !protoo) return;
    this.timers.forEach(clearTimeout);
    this.use(protoo);
    this.emit('interrupted', false);
  }

  /** A connection on which the server goes on; undefined if there was none this time. */
  private async resumed(): Promise<Protoo | undefined> {
    const protoo = this.closed ? undefined : await this.connect(true).catch(() => undefined);
    if (!protoo || this.closed) return undefined;
    return new Promise((resolve) => {
      protoo.on('notification', ({ method }) => {
        if (method === 'resumed') resolve(protoo);
        else if (method === 'notResumed') this.end({ code: BROKEN, reason: 'the server has not kept your place' });
      });
      protoo.on('close', () => resolve(undefined));
    });
  }

  private end(closed: Closed): void {
    if (this.closed) return;
    this.closed = true;
    this.timers.forEach(clearTimeout);
    this.connection.reject(new ConnectionLost('the connection is closed'));
    this.latest?.close();
    this.emit('close', closed);
  }
}
