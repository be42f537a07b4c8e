/** Light and dark: what the user chose, or what the system says. */

export const THEMES = ['auto', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];

const systemIsLight = matchMedia('(prefers-color-scheme: light)');

let chosen: Theme = 'auto';

systemIsLight.addEventListener('change', show);

export function setTheme(theme: Theme): void {
  chosen = theme;
  show();
}

function show(): void {
  const theme = chosen === 'auto' ? (systemIsLight.matches ? 'light' : 'dark') : chosen;
  document.documentElement.dataset['theme'] = theme;
  const colour = getComputedStyle(document.documentElement).getPropertyValue('--background');
  document.querySelector('meta[name="theme-color"]')?.setAttribute('content', colour.trim());
}
