import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StatsReader, formatBitrate, formatLoss } from '../src/stats';

function report(...entries: { id: string }[]): RTCStatsReport {
  return new Map(entries.map((entry) => [entry.id, entry])) as unknown as RTCStatsReport;
}

const CODEC = { id: 'C', type: 'codec', mimeType: 'video/VP8' };

function inbound(timestamp: number, bytesReceived: number, packetsReceived: number, packetsLost: number) {
  return {
    id: 'I', type: 'inbound-rtp', kind: 'video', trackIdentifier: 'consumer', codecId: 'C', timestamp, bytesReceived,
    packetsReceived, packetsLost, frameWidth: 640, frameHeight: 480, framesPerSecond: 30,
  };
}

test('rates are over the time between two readings', () => {
  const reader = new StatsReader('recv');
  assert.equal(reader.read(report(CODEC, inbound(1_000, 5_000, 10, 0))).sources.get('consumer')?.bitrateBps, undefined);
  const figures = reader.read(report(CODEC, inbound(3_000, 255_000, 100, 10))).sources.get('consumer');
  assert.equal(figures?.bitrateBps, 1_000_000);
  assert.equal(figures?.loss, 0.1);
  assert.equal(figures?.codec, 'VP8');
  assert.deepEqual([figures?.width, figures?.height, figures?.framesPerSecond], [640, 480, 30]);
});

test('packets that repair brings back are no negative loss', () => {
  const reader = new StatsReader('recv');
  reader.read(report(inbound(1_000, 0, 0, 5)));
  assert.equal(reader.read(report(inbound(2_000, 0, 5, 2))).sources.get('consumer')?.loss, 0);
});

test('the probation stream is nobody\'s', () => {
  const probator = { ...inbound(1_000, 0, 0, 0), mid: 'probator' };
  assert.equal(new StatsReader('recv').read(report(probator)).sources.size, 0);
});

const SOURCE = { id: 'S', type: 'media-source', trackIdentifier: 'track' };

test('loss of what is sent is what the other side reports', () => {
  const reader = new StatsReader('send');
  const at = (timestamp: number, packetsSent: number, packetsLost: number) =>
    reader.read(
      report(
        SOURCE,
        { id: 'O', type: 'outbound-rtp', kind: 'audio', mediaSourceId: 'S', remoteId: 'R', timestamp, bytesSent: 0, packetsSent } as never,
        { id: 'R', type: 'remote-inbound-rtp', packetsLost } as never,
      ),
    );
  at(1_000, 0, 0);
  assert.equal(at(2_000, 50, 5).sources.get('track')?.loss, 0.1);
});

test('encodings of one picture are told as one, as large as the largest that is sent', () => {
  const reader = new StatsReader('send');
  const encoding = (id: string, timestamp: number, bytesSent: number, frameWidth: number, more: object = {}) =>
    ({
      id, type: 'outbound-rtp', kind: 'video', mediaSourceId: 'S', remoteId: `remote ${id}`, timestamp, bytesSent, packetsSent: bytesSent / 1_000,
      frameWidth, frameHeight: frameWidth / 2, framesPerSecond: frameWidth / 40, active: true, ...more,
    }) as never;
  const at = (timestamp: number, scale: number) =>
    reader.read(
      report(
        SOURCE,
        encoding('low', timestamp, 10_000 * scale, 320),
        encoding('medium', timestamp, 50_000 * scale, 640),
        encoding('high', timestamp, 0, 1_280, { active: false }),
        { id: 'remote low', type: 'remote-inbound-rtp', packetsLost: 0 } as never,
        { id: 'remote medium', type: 'remote-inbound-rtp', packetsLost: 5 * scale } as never,
      ),
    );
  at(1_000, 0);
  const { sources } = at(2_000, 1);
  assert.deepEqual([...sources.keys()], ['track']);
  assert.deepEqual(sources.get('track'), { kind: 'video', bitrateBps: 480_000, loss: 0.1, width: 640, height: 320, framesPerSecond: 16 });
});

test('the round trip is that of the pair in use', () => {
  const pair = (id: string, nominated: boolean, currentRoundTripTime: number) =>
    ({ id, type: 'candidate-pair', nominated, currentRoundTripTime }) as never;
  assert.equal(new StatsReader('recv').read(report(pair('a', false, 9), pair('b', true, 0.02))).rttMs, 20);
});

test('it is told by what media go', () => {
  const entry = (fields: object) => fields as never;
  const pair = entry({ id: 'pair', type: 'candidate-pair', nominated: true, localCandidateId: 'local' });
  const path = (local: object, ...more: never[]) =>
    new StatsReader('recv').read(report(pair, entry({ id: 'local', type: 'local-candidate', ...local }), ...more)).path;
  assert.equal(path({ candidateType: 'host', protocol: 'udp' }), 'UDP');
  assert.equal(path({ candidateType: 'prflx', protocol: 'tcp' }), 'TCP');
  assert.equal(path({ candidateType: 'relay', protocol: 'udp', relayProtocol: 'tls' }), 'TURN · TLS');
  const selected = [
    entry({ id: 'transport', type: 'transport', selectedCandidatePairId: 'other' }),
    entry({ id: 'other', type: 'candidate-pair', nominated: true, localCandidateId: 'tcp' }),
    entry({ id: 'tcp', type: 'local-candidate', candidateType: 'host', protocol: 'tcp' }),
  ];
  assert.equal(path({ candidateType: 'host', protocol: 'udp' }, ...selected), 'TCP', 'of several the one in use');
});

test('figures are worded for people', () => {
  assert.equal(formatBitrate(64_400), '64 kbit/s');
  assert.equal(formatBitrate(1_250_000), '1.3 Mbit/s');
  assert.equal(formatLoss(0), '0 %');
  assert.equal(formatLoss(0.0123), '1.2 %');
  assert.equal(formatLoss(0.5), '50 %');
});
