/** Pictures and sound that a page makes itself: as large and as steady as a test needs them. */

export interface Picture {
  width: number;
  height: number;
  framesPerSecond: number;
}

/** How many of its lines are noise, which no encoder makes small: with it, it takes 2 to 3 Mbit/s if it may, without it a third. */
const NOISE = 0.02;

const STRIPE = 40;

/** Moving stripes, and above them noise that is another in each picture. */
export function drawn({ width, height, framesPerSecond }: Picture): MediaStreamTrack {
  const canvas = Object.assign(document.createElement('canvas'), { width, height });
  const context = canvas.getContext('2d');
  if (!context) throw new Error('nothing can be drawn');
  const noise = context.createImageData(width, Math.ceil(height * NOISE));
  const pixels = new Uint32Array(noise.data.buffer);
  const track = only(canvas.captureStream());
  let count = 0;
  const drawing = setInterval(() => {
    if (track.readyState === 'ended') clearInterval(drawing);
    count++;
    for (let x = 0; x < width; x += STRIPE) {
      context.fillStyle = `hsl(${(x + 3 * count) % 360} 60% 50%)`;
      context.fillRect(x, 0, STRIPE, height);
    }
    for (const index of pixels.keys()) pixels[index] = 0xff000000 | (Math.random() * 0x1000000);
    context.putImageData(noise, 0, 0);
  }, 1000 / framesPerSecond);
  return track;
}

/** A tone without a pause: what is missing of it is missed. */
export function tone(): MediaStreamTrack {
  const context = new AudioContext();
  const destination = context.createMediaStreamDestination();
  const oscillator = new OscillatorNode(context);
  oscillator.connect(destination);
  oscillator.start();
  return only(destination.stream);
}

function only(stream: MediaStream): MediaStreamTrack {
  const [track] = stream.getTracks();
  if (!track) throw new Error('there is no track');
  return track;
}
