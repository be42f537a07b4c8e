/** What is used of protoo-client, which has no types of its own. */
declare module 'protoo-client' {
  namespace protoo {
    class WebSocketTransport {
      constructor(url: string);
    }
    class Peer {
      constructor(transport: WebSocketTransport);
      on(event: string, listener: (...args: any[]) => void): void;
      request(method: string, data: unknown): Promise<any>;
      notify(method: string, data: unknown): Promise<void>;
      close(): void;
    }
  }
  export default protoo;
}
