/** The user's own pictures. */
import type { Outgoing } from '../publisher';
import { Tile } from './tile';

/** The camera, mirrored as in a mirror. */
export class SelfTile extends Tile {
  constructor(private readonly ownName: string) {
    super('self');
    this.element.classList.add('self');
    this.video.muted = true;
  }

  update({ media, encryption }: Outgoing, home: { region?: string; node?: string }): void {
    this.setPerson(this.ownName, home.region, home.node, ' (you)');
    play(this.video, media.tracks.video);
    this.setSending(media.enabled.audio, media.enabled.video && media.tracks.video !== undefined);
    this.setEncrypted(encryption.passphrase !== undefined);
  }
}

/** What the others see of the screen. */
export class OwnScreenTile extends Tile {
  constructor() {
    super('self screensharing');
    this.element.classList.add('screen');
    this.video.muted = true;
    this.setPerson('Your screen', undefined, undefined);
    this.setSending(true, true);
  }

  update({ screen, encryption }: Outgoing): void {
    play(this.video, screen.track);
    this.setEncrypted(encryption.passphrase !== undefined);
  }
}

function play(video: HTMLVideoElement, track: MediaStreamTrack | undefined): void {
  const shown = video.srcObject instanceof MediaStream ? video.srcObject.getVideoTracks()[0] : undefined;
  if (track !== shown) video.srcObject = track ? new MediaStream([track]) : null;
}
