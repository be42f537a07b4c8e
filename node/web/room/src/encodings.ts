/** What a picture is encoded to, and which of its encodings are sent. */
import type { types } from 'mediasoup-client';

/** Temporal layers let the mesh thin out a stream that a link cannot carry whole. */
const scalabilityMode = 'L1T3';

/** The camera: a thumbnail, a tile, and enough for 720p with a good picture. Viewers get the one that fits. */
export const CAMERA_ENCODINGS: readonly types.RtpEncodingParameters[] = [
  { scaleResolutionDownBy: 4, maxBitrate: 150_000, scalabilityMode },
  { scaleResolutionDownBy: 2, maxBitrate: 500_000, scalabilityMode },
  { scaleResolutionDownBy: 1, maxBitrate: 2_000_000, scalabilityMode },
];

/** A screen is worth nothing when its text cannot be read, so there is no smaller one. */
export const SCREEN_ENCODINGS: readonly types.RtpEncodingParameters[] = [{ maxBitrate: 2_500_000, scalabilityMode }];

/** Sends the encodings that somebody wants, and always the lowest: whoever comes next sees that one at once. */
export async function sendWanted(
  sender: Pick<RTCRtpSender, 'getParameters' | 'setParameters'>,
  wanted: readonly boolean[],
): Promise<void> {
  const parameters = sender.getParameters();
  const active = (index: number) => index === 0 || wanted[index] !== false;
  if (parameters.encodings.every((encoding, index) => encoding.active === active(index))) return;
  parameters.encodings.forEach((encoding, index) => (encoding.active = active(index)));
  await sender.setParameters(parameters);
}
