/**
 * Sound that the browser holds back: until the user has touched the page or lent it a microphone, browsers may play
 * pictures only. Any touch turns the sound on; a notice says so if none comes.
 */
import type { Notices } from './notices';
import type { PeerTile } from './peer-tile';

/** A page that was opened by a link usually gets its microphone, and with it the right to play, within this time. */
const NOTICE_AFTER_MS = 1_500;

export class BlockedSound {
  private timer: ReturnType<typeof setTimeout> | undefined;
  private dismiss: (() => void) | undefined;

  constructor(
    private readonly notices: Notices,
    private readonly tiles: () => Iterable<PeerTile>,
  ) {}

  /** A tile had to be muted. */
  blocked(): void {
    if (this.timer !== undefined) return;
    for (const gesture of ['pointerdown', 'keydown'] as const) addEventListener(gesture, this.retry, true);
    this.timer = setTimeout(() => {
      this.dismiss = this.notices.show({
        text: 'The browser holds the sound back until you touch the page.',
        action: { label: 'Turn sound on', run: this.retry },
      });
    }, NOTICE_AFTER_MS);
  }

  /** Tries to play with sound; a tile that still may not says `blocked` again. */
  readonly retry = (): void => {
    if (this.timer === undefined) return;
    this.close();
    for (const tile of this.tiles()) tile.unmute();
  };

  close(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.dismiss?.();
    this.dismiss = undefined;
    for (const gesture of ['pointerdown', 'keydown'] as const) removeEventListener(gesture, this.retry, true);
  }
}
