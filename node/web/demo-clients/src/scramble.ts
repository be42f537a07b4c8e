/**
 * Frames that nobody between the pages can read, by an encoded transform (WebRTC Encoded Transform). As good as encryption for those
 * who have to do without the payload, and anything but encryption. Chromium packetizes such frames of VP8 and VP9 and not of AV1, whose
 * packets it makes of what is in the frame.
 */

const MASK = 0xa5;

const WORKER = `
onrtctransform = ({ transformer: { readable, writable } }) => {
  const transform = (frame, controller) => {
    frame.data = new Uint8Array(frame.data).map((byte) => byte ^ ${MASK}).buffer;
    controller.enqueue(frame);
  };
  readable.pipeThrough(new TransformStream({ transform })).pipeTo(writable).catch(() => {});
};`;

/** Makes frames unreadable, or readable again. */
export function scramble(end: RTCRtpSender | RTCRtpReceiver): void {
  const worker = new Worker(URL.createObjectURL(new Blob([WORKER], { type: 'text/javascript' })));
  end.transform = new RTCRtpScriptTransform(worker);
}
