/** Why a WebSocket could not be opened. Browsers do not tell their pages, so the server is asked once more. */
import { RequestError } from './protoo';

/** The answers that say something of who wants to enter. */
const REFUSALS = [400, 401, 403, 429, 503];

/** Whoever let the WebSocket wait may let this wait too. */
const ANSWER_TIMEOUT_MS = 5_000;

/** Why the server does not let in who comes with this WebSocket address; undefined if it would, or says nothing. */
export async function refusalOf(signallingUrl: string): Promise<RequestError | undefined> {
  const url = new URL('/v1/admission', signallingUrl.replace(/^ws/, 'http'));
  url.search = new URL(signallingUrl).search;
  const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
  try {
    const response = await fetch(url, { signal });
    // What is in between answers with a page of its own.
    const isPlain = response.headers.get('content-type')?.startsWith('text/plain') === true;
    if (!REFUSALS.includes(response.status) || !isPlain) return undefined;
    return new RequestError('admission', response.status, (await response.text()).trim());
  } catch {
    return undefined;
  }
}
