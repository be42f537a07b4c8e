/** The page's own data producers, of one session. */
import type { types } from 'mediasoup-client';

export class DataPublisher {
  private readonly producers = new Map<string, types.DataProducer>();

  /** `closeAtServer` asks the server to close a data producer. */
  constructor(
    private readonly transport: Promise<Pick<types.Transport, 'produceData'>>,
    private readonly closeAtServer: (dataProducerId: string) => void,
  ) {}

  /** Makes a data channel to all others. Rejects if the server refuses it, or has none. */
  async produce(label: string, protocol: string): Promise<types.DataProducer> {
    const transport = await this.transport;
    // The channel has the name that mediasoup-demo's later clients give it, too.
    const producer = await transport.produceData({ label, protocol, appData: { channel: label } });
    this.producers.set(producer.id, producer);
    producer.observer.once('close', () => this.producers.delete(producer.id));
    return producer;
  }

  /** After an interruption these are what the server has. */
  reconcile(ids: string[]): void {
    // The answer that told of it was lost.
    for (const id of ids) if (!this.producers.has(id)) this.closeAtServer(id);
    for (const [id, producer] of [...this.producers]) if (!ids.includes(id)) producer.close();
  }
}
