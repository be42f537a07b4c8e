/** Which of a simulcast picture's layers this page wants: what the user chose, or what fits the tile. */

export const CHOICES = ['auto', 'high', 'medium', 'low'] as const;
export type LayerChoice = (typeof CHOICES)[number];

/** The width that the best layer of a camera has; each one below is half as wide. */
const BEST_WIDTH = 1_280;

/** So much larger than it is may a picture be shown. */
const STRETCH = 1.25;

/** Tiles change their size one after the other, or by a hand at the window's edge: so often the server is told. */
const TELL_AFTER_MS = 300;

/** The layer, of so many, that is wanted for a picture shown `width` device pixels wide. */
export function layerFor(choice: LayerChoice, layers: number, width: number): number {
  const best = layers - 1;
  switch (choice) {
    case 'high':
      return best;
    case 'medium':
      return Math.floor(best / 2);
    case 'low':
      return 0;
    case 'auto': {
      let layer = best;
      while (layer > 0 && (BEST_WIDTH / 2 ** (best - layer + 1)) * STRETCH >= width) layer--;
      return layer;
    }
  }
}

/** A layer's name among so many, in the words of {@link CHOICES}. */
export function layerName(layer: number, layers: number): string {
  if (layer === layers - 1) return 'high';
  return layer === 0 ? 'low' : 'medium';
}

/** Tells the server which layers are wanted. */
export class LayerRequests {
  private asked = new Map<string, number>();
  private wanted = new Map<string, number>();
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly ask: (consumerId: string, spatialLayer: number) => void) {}

  /**
   * These layers are wanted now, by consumer. For a consumer that is new the server hears of it at once, before anything is
   * sent, so that no publisher starts an encoding for a moment; of the others a moment later, of all at once.
   */
  want(wanted: Map<string, number>): void {
    this.wanted = wanted;
    for (const id of this.asked.keys()) if (!wanted.has(id)) this.asked.delete(id);
    for (const [id, layer] of wanted) if (!this.asked.has(id)) this.tell(id, layer);
    this.timer ??= setTimeout(() => this.tellChanges(), TELL_AFTER_MS);
  }

  close(): void {
    clearTimeout(this.timer);
  }

  private tellChanges(): void {
    this.timer = undefined;
    for (const [id, layer] of this.wanted) if (this.asked.get(id) !== layer) this.tell(id, layer);
  }

  private tell(id: string, layer: number): void {
    this.asked.set(id, layer);
    this.ask(id, layer);
  }
}
