/**
 * The protoo protocol over one WebSocket: requests in both directions, answered by id, and notifications.
 *
 * One instance is one connection; whoever wants to come back makes a new one.
 */
import { Emitter } from './emitter';

/** Longest wait for a server's answer. protoo's own client waits 1.5 s x (15 + 0.1 x pending). */
const REQUEST_TIMEOUT_MS = 20_000;

/** Longest wait for the WebSocket to open: a server that is gone often does not refuse, it is silent. */
const OPEN_TIMEOUT_MS = 8_000;

/** A request that the other side answered with an error. */
export class RequestError extends Error {
  constructor(
    readonly method: string,
    readonly code: number,
    readonly reason: string,
  ) {
    super(reason || `${method} failed with code ${code}`);
    this.name = 'RequestError';
  }
}

/** What came of a request is not known: the connection ended before the answer. */
export class ConnectionLost extends Error {}

/** How a connection ended: the WebSocket's close code and reason. */
export interface Closed {
  code: number;
  reason: string;
}

interface Pending {
  method: string;
  resolve(data: never): void;
  reject(error: Error): void;
  timer: ReturnType<typeof setTimeout>;
}

interface Message {
  request?: boolean;
  response?: boolean;
  notification?: boolean;
  id?: number;
  ok?: boolean;
  method?: string;
  data?: unknown;
  errorCode?: number;
  errorReason?: string;
}

/** Answers one request of the server; what it throws becomes the error response. */
export type RequestHandler = (method: string, data: never) => Promise<unknown>;

type Events = { notification: { method: string; data: never }; close: Closed };

export class Protoo extends Emitter<Events> {
  private readonly pending = new Map<number, Pending>();
  private closed = false;

  /** Opens a WebSocket to `url` and resolves once it is open. */
  static open(url: string, handler: RequestHandler): Promise<Protoo> {
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(url, 'protoo');
      const timer = setTimeout(() => {
        socket.onopen = socket.onclose = null;
        socket.close();
        reject(new Error('the server does not answer'));
      }, OPEN_TIMEOUT_MS);
      socket.onopen = () => {
        clearTimeout(timer);
        resolve(new Protoo(socket, handler));
      };
      socket.onclose = () => {
        clearTimeout(timer);
        reject(new Error('the server cannot be reached'));
      };
    });
  }

  private constructor(
    private readonly socket: WebSocket,
    private readonly handler: RequestHandler,
  ) {
    super();
    socket.onmessage = (event: MessageEvent<unknown>) => this.receive(event.data);
    socket.onclose = (event) => this.end({ code: event.code, reason: event.reason });
  }

  /** Sends a request; resolves with the answer's data, rejects with a {@link RequestError}, or a {@link ConnectionLost}. */
  request<Response>(method: string, data: object = {}): Promise<Response> {
    if (this.closed) return Promise.reject(new ConnectionLost('the connection is closed'));
    let id: number;
    do id = Math.floor(Math.random() * 10_000_000);
    while (this.pending.has(id));
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.pending.delete(id);
        reject(new Error(`the server did not answer "${method}"`));
      }, REQUEST_TIMEOUT_MS);
      this.pending.set(id, { method, resolve, reject, timer });
      this.send({ request: true, id, method, data });
    });
  }

  /** Closes the connection. The `close` event follows at once, not after the server's closing handshake. */
  close(): void {
    this.end({ code: 1000, reason: '' });
  }

  private send(message: Message): void {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  private receive(text: unknown): void {
    let message: Message;
    try {
      message = JSON.parse(String(text)) as Message;
    } catch {
      console.warn('protoo: a message is not JSON');
      return;
    }
    if (message.request) void this.answer(message);
    else if (message.response) this.settle(message);
    else if (message.notification) {
      this.emit('notification', { method: message.method ?? '', data: (message.data ?? {}) as never });
    }
  }

  private settle(message: Message): void {
    const pending = this.pending.get(message.id ?? -1);
    if (!pending) return;
    this.pending.delete(message.id ?? -1);
    clearTimeout(pending.timer);
    if (message.ok) pending.resolve((message.data ?? {}) as never);
    else pending.reject(new RequestError(pending.method, message.errorCode ?? 500, message.errorReason ?? ''));
  }

  private async answer({ id = 0, method = '', data }: Message): Promise<void> {
    try {
      const answer = await this.handler(method, (data ?? {}) as never);
      this.send({ response: true, id, ok: true, data: answer ?? {} });
    } catch (error) {
      const errorCode = error instanceof RequestError ? error.code : 500;
      const errorReason = error instanceof Error ? error.message : String(error);
      this.send({ response: true, id, errorCode, errorReason });
    }
  }

  private end(closed: Closed): void {
    if (this.closed) return;
    this.closed = true;
    this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
    for (const { reject, timer } of this.pending.values()) {
      clearTimeout(timer);
      reject(new ConnectionLost('the connection to the server was lost'));
    }
    this.pending.clear();
    this.emit('close', closed);
  }
}
