/** Why media find no way to the server, in words that help whoever reads them. */

interface Candidate {
  /** Newer servers say `address`, older ones `ip`. */
  address?: string;
  ip?: string;
  port: number;
  protocol: string;
}

/** What to say when ICE has failed, given the candidates that the server offered, and the URLs of TURN. */
export function explainFailure(candidates: readonly Candidate[], turn: readonly string[], userAgent: string): string {
  const hosts = candidates.map((candidate) => candidate.address ?? candidate.ip ?? '');
  const list = candidates.map(({ port, protocol }, index) => `${hosts[index]}:${port} (${protocol.toUpperCase()})`).join(', ');
  const detour = turn.length > 0 ? `, nor by TURN from ${turn.join(', ')}` : '';
  const failed = `Pictures and sound find no way to the server: there is no answer from ${list}${detour}.`;
  if (!hosts.every(isLoopback)) return `${failed} A firewall may be in between, or the server announces an address that it is not reached by.`;
  if (/\bFirefox\//.test(userAgent)) {
    return `${failed} That is this machine's own address, to which Firefox sends no media. Chromium does, or let the server announce another one.`;
  }
  return `${failed} Only the server's own machine reaches that address: it must announce another one.`;
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\./.test(host);
}
