/** The page: a lobby, then a room, then the lobby again. */
import { rememberedDevice } from './capabilities';
import { LocalMedia, type Kind } from './devices';
import { installHooks } from './hooks';
import { Meeting } from './meeting';
import { loadPreferences, parseOptions, PeerSecret, savePreferences, signallingUrl, suggestRoom, tabPeerId } from './options';
import { Lobby, type LobbyChoice } from './ui/lobby';
import { RoomView } from './ui/room';

const options = parseOptions(location.search);
const preferences = loadPreferences();
const media = new LocalMedia(preferences.devices);
let meeting: Meeting | undefined;

installHooks(() => meeting);
addEventListener('pagehide', () => meeting?.leave());
// Prepared while the user is still reading, so that joining does not wait for it.
void rememberedDevice();

/** Opens the devices that the address and the last visit ask for. */
function openDevices(): Promise<void> {
  const kinds = (['audio', 'video'] as const).filter((kind) => options[kind] && preferences[kind]);
  return media.open([...kinds]);
}

function showLobby(): void {
  document.title = 'Sluice';
  const initial: LobbyChoice = {
    displayName: options.displayName || loadPreferences().displayName,
    room: options.room || suggestRoom(),
  };
  const remember = (kind: Kind, deviceId: string) => {
    savePreferences({ devices: { ...loadPreferences().devices, [kind]: deviceId } });
  };
  const lobby = new Lobby(media, initial, remember, (choice) => {
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
  const address = new URL(location.href);
  address.searchParams.set('roomId', choice.room);
  history.replaceState(null, '', address);
  const peerId = options.peerId ?? tabPeerId();
  const secret = new PeerSecret(choice.room, peerId);
  const { namespace, token } = options;
  const url = (resume: boolean) =>
    signallingUrl(location.origin, { roomId: choice.room, peerId, namespace, token, peerSecret: secret.get(), resume });
  const current = new Meeting({ url, secret, displayName: choice.displayName, media }, peerId);
  meeting = current;
  const end = (next: () => void) => () => {
    current.leave();
    meeting = undefined;
    view.close();
    next();
  };
  const view = new RoomView(current, media, choice.displayName, choice.room, {
    leave: end(showLobby),
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
