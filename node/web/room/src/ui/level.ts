/** A meter that shows whether the microphone hears something. */
import { h } from '@sluice/web-kit/ui/dom';

const BARS = 5;

export class LevelMeter {
  readonly element = h(
    'div',
    { class: 'level', attrs: { 'aria-hidden': 'true' } },
    ...Array.from({ length: BARS }, () => h('i')),
  );
  private track: MediaStreamTrack | undefined;
  private context: AudioContext | undefined;
  private frame = 0;

  /** Measures `track` from now on, or nothing. */
  listen(track: MediaStreamTrack | undefined): void {
    this.element.hidden = track === undefined;
    if (track === this.track) return;
    this.stop();
    this.track = track;
    if (track) this.start(track);
  }

  close(): void {
    this.stop();
  }

  private start(track: MediaStreamTrack): void {
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    analyser.fftSize = 512;
    context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
    // Without a user's gesture the context may start suspended; the meter then just stays empty.
    void context.resume();
    const samples = new Float32Array(analyser.fftSize);
    const draw = () => {
      analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
      // -60 dBFS is silence, -15 dBFS loud speech.
      const level = (10 * Math.log10(power + 1e-9) + 60) / 45;
      [...this.element.children].forEach((bar, index) => bar.classList.toggle('lit', level > (index + 0.5) / BARS));
      this.frame = requestAnimationFrame(draw);
    };
    this.context = context;
    draw();
  }

  private stop(): void {
    cancelAnimationFrame(this.frame);
    void this.context?.close();
    this.context = undefined;
    this.track = undefined;
  }
}
