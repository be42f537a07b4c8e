/** What `sluice-loadtest` reports of a stream is what a browser reports of the same stream. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, type Browser } from '@sluice/web-kit/harness/browser';
import { LOADTEST } from '@sluice/web-kit/harness/environment';
import { Mesh } from '@sluice/web-kit/harness/mesh';
import { Person } from '../harness/person';

/** A room of the scenario below: its name and its number. */
const ROOM = 'agreement-1';

/** One user who sends nothing and receives everything, beside the browser that is compared with. */
const SCENARIO = `
ramp = "0s"
duration = "15s"
[[rooms]]
name = "agreement"
count = 1
[[rooms.users]]
name = "watcher"
count = 1
`;

/** Seconds of the run that are not compared: streams begin. */
const SETTLED_AFTER = 3;

const TOLERANCE = 0.05;

interface Received {
  bytes: number;
  packets: number;
  expected: number;
  lost: number;
  frames: number;
}

interface Results {
  started_unix_ms: number;
  samples: { at_s: number; groups: { audio: Received; video: Received }[] }[];
}

/** A browser's counters at a time. */
interface Reading {
  at: number;
  audioBytes: number;
  videoBytes: number;
  frames: number;
  packets: number;
  lost: number;
}

let mesh: Mesh;
let hers: Browser;
let his: Browser;
const folder = mkdtempSync(join(tmpdir(), 'sluice-agreement-'));

before(async () => {
  mesh = await Mesh.dev('agreement', 1);
  [hers, his] = await Promise.all([launch({ framesPerSecond: 20 }), launch()]);
});

after(async () => {
  await Promise.all([hers?.close(), his?.close()]);
  await mesh?.stop();
  rmSync(folder, { recursive: true });
});

async function read(person: Person): Promise<Reading> {
  const { recv } = await person.stats();
  const streams = recv.filter((entry) => entry['type'] === 'inbound-rtp');
  const [audio, video] = ['audio', 'video'].map((kind) => streams.find((entry) => entry['kind'] === kind) ?? {});
  const figure = (entry: Record<string, unknown> | undefined, name: string) => Number(entry?.[name] ?? 0);
  return {
    at: figure(video, 'timestamp'),
    audioBytes: figure(audio, 'bytesReceived'),
    videoBytes: figure(video, 'bytesReceived'),
    frames: figure(video, 'framesReceived'),
    packets: figure(video, 'packetsReceived'),
    lost: figure(video, 'packetsLost'),
  };
}

/** The counters at a time between two readings. */
function at(readings: Reading[], time: number): Reading {
  const next = readings.findIndex((reading) => reading.at >= time);
  const [a, b] = [readings[next - 1], readings[next]];
  assert.ok(a && b, 'the browser was read before and after');
  const share = (time - a.at) / (b.at - a.at);
  const between = (name: keyof Reading): number => a[name] + (b[name] - a[name]) * share;
  return {
    at: time,
    audioBytes: between('audioBytes'),
    videoBytes: between('videoBytes'),
    frames: between('frames'),
    packets: between('packets'),
    lost: between('lost'),
  };
}

async function run(target: string): Promise<Results> {
  const scenario = join(folder, 'agreement.toml');
  writeFileSync(scenario, SCENARIO);
  const child = spawn(LOADTEST, ['run', scenario, '--target', `eu=${target}`, '--out', folder], { stdio: 'ignore' });
  await once(child, 'exit');
  const json = readdirSync(folder).find((name) => name.endsWith('.json'));
  assert.ok(json, 'results were written');
  return JSON.parse(readFileSync(join(folder, json), 'utf8')) as Results;
}

test('bitrate, frame rate and loss agree within 5%', async () => {
  const url = mesh.nodes[0]?.users ?? '';
  const alice = await Person.join(hers, 'Alice', url, ROOM);
  await alice.inRoom();
  const bob = await Person.join(his, 'Bob', url, ROOM, { video: '0', audio: '0' });
  await bob.inRoom();
  // A page that lends no microphone may play sound for certain only once it was touched.
  await bob.page.locator('body').click();
  await bob.seesAndHears('Alice');
  // The other one receives the best that there is, too.
  await bob.choose('Alice', 'high');

  const readings: Reading[] = [];
  let running = true;
  const results = run(url.replace('http:', 'ws:')).finally(() => (running = false));
  while (running) {
    readings.push(await read(bob));
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  readings.push(await read(bob));

  const { started_unix_ms, samples } = await results;
  const settled = samples.filter(({ at_s }) => at_s > SETTLED_AFTER);
  const first = samples.findLast(({ at_s }) => at_s <= SETTLED_AFTER);
  const last = settled.at(-1);
  assert.ok(first && last && settled.length > 5, 'the run has seconds enough');
  const [begin, end] = [first, last].map(({ at_s }) => at(readings, started_unix_ms + at_s * 1000)) as [Reading, Reading];
  const seconds = (end.at - begin.at) / 1000;

  const sum = (pick: (group: { audio: Received; video: Received }) => number) =>
    settled.flatMap(({ groups }) => groups.map(pick)).reduce((total, value) => total + value, 0);
  const figures = {
    'video, kbit/s': [(sum((g) => g.video.bytes) * 8) / seconds / 1000, ((end.videoBytes - begin.videoBytes) * 8) / seconds / 1000],
    'audio, kbit/s': [(sum((g) => g.audio.bytes) * 8) / seconds / 1000, ((end.audioBytes - begin.audioBytes) * 8) / seconds / 1000],
    'frames/s': [sum((g) => g.video.frames) / seconds, (end.frames - begin.frames) / seconds],
    'packets that arrived, of 100': [
      100 - (sum((g) => g.video.lost) / sum((g) => g.video.expected)) * 100,
      100 - ((end.lost - begin.lost) / (end.packets - begin.packets)) * 100,
    ],
  } as Record<string, [number, number]>;
  for (const [name, [loadtest, browser]] of Object.entries(figures)) {
    console.log(`${name}: sluice-loadtest ${loadtest.toFixed(2)}, Chromium ${browser.toFixed(2)}`);
    assert.ok(browser > 0 && Math.abs(loadtest / browser - 1) <= TOLERANCE, `${name}: ${loadtest} against ${browser}`);
  }
});
