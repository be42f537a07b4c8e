/** The choice between light and dark. */
import { loadPreferences, savePreferences } from '../options';
import { setTheme } from '../theme';
import { field, select } from './fields';

export function themeField(): HTMLElement {
  const labels = { auto: 'As the system', light: 'Light', dark: 'Dark' };
  const control = select('theme', labels, loadPreferences().theme, (theme) => {
    savePreferences({ theme });
    setTheme(theme);
  });
  return field('Appearance', control);
}
