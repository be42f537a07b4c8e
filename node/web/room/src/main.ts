/** The page: a lobby, then a room, then the lobby again. */
import { rememberedDevice } from './capabilities';
import { Chat } from './data/chat';
import { Signals } from './data/signals';
import { LocalMedia } from './devices';
import { Encryption } from './encryption';
import { installHooks } from './hooks';
import { Meeting } from './meeting';
import {
  fragmentOf, loadPreferences, parseOptions, passphraseOf, PeerSecret, savePreferences, signallingUrl, suggestRoom, tabPeerId,
} from './options';
import type { Outgoing } from './publisher';
import { Screen } from './screen';
import { Speaker } from './speaker';
import { setTheme } from './theme';
import { Lobby, type LobbyChoice } from './ui/lobby';
import { RoomView } from './ui/room';

const options = parseOptions(location.search);
const preferences = loadPreferences();
const media = new LocalMedia(preferences.devices);
const encryption = new Encryption(passphraseOf(location.hash));
const outgoing: Outgoing = { media, screen: new Screen(), encryption };
const speaker = new Speaker(preferences.speaker);
let meeting: Meeting | undefined;

setTheme(preferences.theme);
installHooks(() => meeting);
addEventListener('pagehide', () => meeting?.leave());
// The passphrase is what the address says, whichever of both changes.
addEventListener('hashchange', () => encryption.setPassphrase(passphraseOf(location.hash)));
encryption.on('change', () => showAddress((address) => (address.hash = fragmentOf(encryption.passphrase))));
// Prepared while the user is still reading, so that joining does not wait for it.
void rememberedDevice();

/** Opens the devices that the address and the last visit ask for. */
function openDevices(): Promise<void> {
  const kinds = (['audio', 'video'] as const).filter((kind) => options[kind] && preferences[kind]);
  return media.open([...kinds]);
}

/** Changes what the browser shows as the page's address. */
function showAddress(change: (address: URL) => void): void {
  const address = new URL(location.href);
  change(address);
  history.replaceState(null, '', address);
}

function showLobby(): void {
  document.title = 'Sluice';
  const initial: LobbyChoice = {
    displayName: options.displayName || loadPreferences().displayName,
    room: options.room || suggestRoom(),
  };
  const lobby = new Lobby(outgoing, speaker, initial, (choice) => {
    lobby.close();
    const { audio, video } = media.enabled;
    savePreferences({ displayName: choice.displayName, audio, video });
    showRoom(choice);
  });
  document.body.replaceChildren(lobby.element);
  lobby.focus();
}

function showRoom(choice: LobbyChoice): void {
  document.title = `${choice.room} · Sluice`;
  options.room = choice.room;
  showAddress((address) => address.searchParams.set('roomId', choice.room));
  encryption.enter(choice.room);
  const peerId = options.peerId ?? tabPeerId();
  const secret = new PeerSecret(choice.room, peerId);
  const { namespace, token, forceTcp, iceTransportPolicy } = options;
  const url = (resume: boolean) =>
    signallingUrl(location.origin, { roomId: choice.room, peerId, namespace, token, peerSecret: secret.get(), resume });
  const current = new Meeting(
    { url, secret, displayName: choice.displayName, forceTcp, outgoing, iceTransportPolicy },
    peerId,
  );
  meeting = current;
  const messages = { chat: new Chat(current, encryption, choice.displayName), signals: new Signals(current, encryption) };
  const end = (next: () => void) => () => {
    current.leave();
    messages.signals.close();
    meeting = undefined;
    view.close();
    next();
  };
  const leave = () => {
    outgoing.screen.stop();
    showLobby();
  };
  const view = new RoomView(current, outgoing, speaker, messages, choice.displayName, choice.room, {
    leave: end(leave),
    rejoin: end(() => showRoom(choice)),
  });
  document.body.replaceChildren(view.element);
  view.showProblems();
  current.start();
}

if (options.room && options.displayName) {
  showRoom({ room: options.room, displayName: options.displayName });
  void openDevices();
} else {
  showLobby();
  void openDevices();
}
