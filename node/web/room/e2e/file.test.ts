/** A media file that virtual users of `sluice-loadtest` send can be watched in a browser. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, type Browser } from '@sluice/web-kit/harness/browser';
import { LOADTEST } from '@sluice/web-kit/harness/environment';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { Person } from '../harness/person';

/** A room of the scenario below: its name and its number. */
const ROOM = 'cinema-1';

/** Long enough that the file begins anew while it is watched. */
const RECORDED_MS = 3_000;

const folder = mkdtempSync(join(tmpdir(), 'sluice-file-'));
const movie = join(folder, 'movie.webm');
const scenario = join(folder, 'cinema.toml');

let mesh: Mesh;
let browser: Browser;

before(async () => {
  mesh = await Mesh.dev('file', 1);
  browser = await launch({ framesPerSecond: 20 });
});

after(async () => {
  await browser?.close();
  await mesh?.stop();
  rmSync(folder, { recursive: true });
});

/** The browser's own camera and microphone, as WebM with VP8 and Opus. */
async function record(person: Person): Promise<Buffer> {
  const base64 = await person.page.evaluate(async (duration) => {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
    const recorder = new MediaRecorder(stream, { mimeType: 'video/webm;codecs=vp8,opus' });
    const parts: Blob[] = [];
    recorder.ondataavailable = ({ data }) => parts.push(data);
    const stopped = new Promise((resolve) => (recorder.onstop = resolve));
    recorder.start();
    setTimeout(() => recorder.stop(), duration);
    await stopped;
    stream.getTracks().forEach((track) => track.stop());
    const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
    return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
  }, RECORDED_MS);
  return Buffer.from(base64, 'base64');
}

test('a recording that a virtual user sends over and over is seen and heard', async () => {
  const url = mesh.nodes[0]?.users ?? '';
  const bob = await Person.open(browser, 'Bob', `${url}/?roomId=${ROOM}`);
  writeFileSync(movie, await record(bob));
  writeFileSync(
    scenario,
    `ramp = "0s"
duration = "60s"
[[rooms]]
name = "cinema"
count = 1
[[rooms.users]]
name = "player"
count = 1
audio = { file = "movie.webm" }
video = { codec = "vp8", file = "movie.webm" }
watch = "none"
`,
  );
  await bob.page.getByLabel('Your name').fill('Bob');
  await bob.page.getByRole('button', { name: 'Join the room' }).click();
  await bob.inRoom();

  const target = `eu=${url.replace('http:', 'ws:')}`;
  const player = spawn(LOADTEST, ['run', scenario, '--target', target, '--no-files'], { stdio: 'ignore' });
  const ended = once(player, 'exit');
  try {
    // 20 frames a second for longer than the recording lasts.
    await bob.seesAndHears('player-1', 100);
    await bob.screenshot('file');
    assert.deepEqual(bob.errors, []);
  } finally {
    player.kill('SIGINT');
    await ended;
  }
});
