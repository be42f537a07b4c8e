/**
 * The network path of a transport: repaired when it breaks, led round about when no direct way leads to the node, and led back
 * when one does.
 */
import type { types } from 'mediasoup-client';
import { isDirect } from './stats';

/** How long a path may be interrupted before ICE is restarted. */
const ICE_PATIENCE_MS = 3_000;

/** How long the direct ways are tried before TURN is tried too: most people never need its connections. */
const DETOUR_AFTER_MS = 2_000;

/** Somebody whose media go round about is looked for a direct way as often. The way in use stays until there is a better one. */
const LOOK_EVERY_MS = 60_000;

export class MediaPath {
  /** It did not come up at all, or could not be repaired. */
  hasFailed = false;
  /** It was there, and has not failed since. */
  private isHealthy = false;
  private onDetour = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly looking: ReturnType<typeof setInterval>;

  /** `detour`: TURN servers, if the transport can be told of them when they are needed. `fail`: nothing can be repaired. */
  constructor(
    private readonly transport: types.Transport,
    private readonly detour: RTCIceServer[],
    private readonly newParameters: () => Promise<types.IceParameters>,
    private readonly fail: (error: Error) => void,
  ) {
    this.looking = setInterval(this.lookForDirect, LOOK_EVERY_MS);
    addEventListener('online', this.lookForDirect);
  }

  close(): void {
    clearTimeout(this.timer);
    clearInterval(this.looking);
    removeEventListener('online', this.lookForDirect);
  }

  /**
   * Restarts ICE when the path has failed, or has been interrupted for a while (a network change, a NAT's restart). When that
   * does not bring it up, or it does not come up by itself, ICE is restarted once more with the detour. Not before: browsers
   * look no further once anything answers.
   */
  follow(state: types.ConnectionState): void {
    clearTimeout(this.timer);
    if (state === 'connected') {
      this.isHealthy = true;
      this.hasFailed = false;
    } else if (state === 'connecting') {
      this.takeDetourLater();
    } else if (state === 'disconnected') {
      this.timer = setTimeout(() => this.repair(), ICE_PATIENCE_MS);
    } else if (state === 'failed' && this.isHealthy) {
      // What was there and fails is an interruption.
      this.isHealthy = false;
      this.repair();
    } else if (state === 'failed') {
      this.hasFailed = true;
      this.takeDetour();
    }
  }

  /** Restarts ICE without the detour if media go by TCP or TURN: perhaps they need not any more. */
  private readonly lookForDirect = async (): Promise<void> => {
    if (this.transport.connectionState !== 'connected' || isDirect(await this.transport.getStats())) return;
    if (this.transport.connectionState === 'connected') void this.restart([]);
  };

  private repair(): void {
    void this.restart();
    this.takeDetourLater();
  }

  private takeDetourLater(): void {
    if (this.detour.length > 0 && !this.onDetour) this.timer = setTimeout(() => this.takeDetour(), DETOUR_AFTER_MS);
  }

  private takeDetour(): void {
    void this.restart(this.detour);
  }

  private async restart(iceServers?: RTCIceServer[]): Promise<void> {
    try {
      const iceParameters = await this.newParameters();
      if (this.transport.closed) return;
      if (iceServers && this.detour.length > 0) {
        this.onDetour = iceServers.length > 0;
        await this.transport.updateIceServers({ iceServers });
      }
      await this.transport.restartIce({ iceParameters });
    } catch (error) {
      if (!this.transport.closed) this.fail(error as Error);
    }
  }
}
