/** The room's settings: devices, how the room looks, and encryption. */
import { h } from '@sluice/web-kit/ui/dom';
import type { LayoutMode } from '../layout';
import type { Outgoing } from '../publisher';
import type { Speaker } from '../speaker';
import { DeviceFields } from './device-fields';
import { showDialog } from './dialog';
import { EncryptionField } from './encryption-field';
import { field, select, toggle } from './fields';
import { themeField } from './theme-field';

export interface Looks {
  layout: LayoutMode;
  setLayout(layout: LayoutMode): void;
  statistics: boolean;
  toggleStatistics(): void;
  showHelp(): void;
}

export function showSettings({ media, encryption }: Outgoing, speaker: Speaker, looks: Looks): void {
  const devices = new DeviceFields(media, speaker);
  const encryptionField = new EncryptionField(encryption);
  const layout = select('layout', { grid: 'Everybody alike', speaker: 'Speaker large' }, looks.layout, looks.setLayout);
  const statistics = toggle('statistics', 'Statistics', 'What each stream brings, on its tile.', looks.toggleStatistics);
  statistics.input.checked = looks.statistics;
  const help = h('button', { class: 'button small', attrs: { type: 'button' }, on: { click: () => looks.showHelp() } }, 'Keyboard…');
  const content = [
    devices.element,
    h('div', { class: 'pair' }, field('Layout', layout), themeField()),
    encryptionField.element,
    statistics.element,
    help,
  ];
  showDialog('Settings', content, () => {
    devices.close();
    encryptionField.close();
  });
}
