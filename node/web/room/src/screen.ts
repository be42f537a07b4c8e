/** The user's screen, or a window or tab of it, while it is shared. */
import { Emitter } from './emitter';

type Events = {
  /** It is shared, or not any more. */
  change: undefined;
};

export class Screen extends Emitter<Events> {
  track: MediaStreamTrack | undefined;

  /** Telephones' browsers cannot. */
  readonly canBeShared = typeof navigator.mediaDevices?.getDisplayMedia === 'function';

  /** Lets the user choose what to share. Rejects with what the user should know of; not choosing is no error. */
  async share(): Promise<void> {
    let stream: MediaStream;
    try {
      stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { max: 30 } } });
    } catch (error) {
      if (error instanceof DOMException && error.name === 'NotAllowedError') return;
      throw error;
    }
    const [track] = stream.getVideoTracks();
    if (!track) return;
    this.track?.stop();
    this.track = track;
    // Text stays sharp; frames may be fewer.
    track.contentHint = 'detail';
    // The browser has a button of its own for that.
    track.addEventListener('ended', () => {
      if (this.track === track) this.stop();
    });
    this.emit('change', undefined);
  }

  stop(): void {
    if (!this.track) return;
    this.track.stop();
    this.track = undefined;
    this.emit('change', undefined);
  }
}
