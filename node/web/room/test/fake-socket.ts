/** A WebSocket whose other end is the test. Importing this puts it in place of the real one. */
export class FakeSocket {
  static readonly OPEN = 1;
  /** Whether the server can be reached. */
  static reachable = true;
  static all: FakeSocket[] = [];
  readyState = 1;
  readonly sent: Record<string, unknown>[] = [];
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;

  static get last(): FakeSocket {
    return this.all.at(-1) as FakeSocket;
  }

  constructor(
    readonly url: string,
    readonly protocol: string,
  ) {
    FakeSocket.all.push(this);
    const { reachable } = FakeSocket;
    queueMicrotask(() => (reachable ? this.onopen?.() : this.end(1006)));
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text) as Record<string, unknown>);
  }

  close(): void {
    this.readyState = 3;
  }

  receive(message: unknown): void {
    this.onmessage?.({ data: typeof message === 'string' ? message : JSON.stringify(message) });
  }

  /** Says something that needs no answer. */
  notify(method: string, data: object = {}): void {
    this.receive({ notification: true, method, data });
  }

  /** Answers the oldest request with this method. */
  answer(method: string, data: object = {}): void {
    const request = this.sent.find((message) => message['request'] && message['method'] === method);
    this.receive({ response: true, id: request?.['id'], ok: true, data });
  }

  /** Ends the connection from the other side. */
  end(code: number, reason = ''): void {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
}

Object.assign(globalThis, { WebSocket: FakeSocket });

/** Lets the promise jobs run that are due. */
export const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
