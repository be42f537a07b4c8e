/** When the pictures of a video come. */
export class Watch {
  private last = performance.now();
  private longest = 0;

  constructor(private readonly video: HTMLVideoElement) {
    this.next();
  }

  restart(): void {
    this.longest = 0;
  }

  /** The longest time without a new picture since the start, the present one included. */
  longestGapMs(): number {
    this.longest = Math.max(this.longest, performance.now() - this.last);
    return this.longest;
  }

  private next(): void {
    this.video.requestVideoFrameCallback(() => {
      this.longestGapMs();
      this.last = performance.now();
      this.next();
    });
  }
}
