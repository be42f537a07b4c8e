/** The page's icons: 24 x 24 line drawings in the current colour, hidden from screen readers. */

const PATHS = {
  microphone: 'M12 3a3 3 0 0 0-3 3v5a3 3 0 0 0 6 0V6a3 3 0 0 0-3-3Z M5.5 11a6.5 6.5 0 0 0 13 0 M12 17.5V21 M8.5 21h7',
  'microphone-off':
    'M9 9v2a3 3 0 0 0 4.6 2.5 M15 10.5V6a3 3 0 0 0-5.7-1.3 M5.5 11a6.5 6.5 0 0 0 10.3 5.3 M18.5 11a6.5 6.5 0 0 1-.7 2.9 M12 17.5V21 M8.5 21h7 M3.5 3.5l17 17',
  camera: 'M4.5 6.5h9a2 2 0 0 1 2 2v7a2 2 0 0 1-2 2h-9a2 2 0 0 1-2-2v-7a2 2 0 0 1 2-2Z M15.5 10.8l6-3.3v9l-6-3.3',
  'camera-off':
    'M9.5 6.5h4a2 2 0 0 1 2 2v4 M15.5 10.8l6-3.3v9l-2.5-1.4 M15 16.8a2 2 0 0 1-1.5.7h-9a2 2 0 0 1-2-2v-7a2 2 0 0 1 2-2h.2 M3.5 3.5l17 17',
  leave: 'M14 4.5H7a2 2 0 0 0-2 2v11a2 2 0 0 0 2 2h7 M10.5 12H21 M17 8l4 4-4 4',
  link: 'M10 14a4.2 4.2 0 0 0 6.2.3l3-3a4.2 4.2 0 0 0-6-6l-1.6 1.6 M14 10a4.2 4.2 0 0 0-6.2-.3l-3 3a4.2 4.2 0 0 0 6 6l1.5-1.6',
  stats: 'M4 20V11 M9.3 20V5 M14.7 20v-6 M20 20V8',
  sound: 'M4 9.5v5h3.5l4.5 4v-13l-4.5 4H4Z M15.5 9a4.2 4.2 0 0 1 0 6 M18 6.5a7.8 7.8 0 0 1 0 11',
  warning: 'M12 4 2.8 19.5h18.4L12 4Z M12 10v4.5 M12 17.2v.1',
  close: 'M6 6l12 12 M18 6 6 18',
  check: 'M5 12.5l4.5 4.5L19 7.5',
  lock: 'M6.5 11h11a1 1 0 0 1 1 1v7a1 1 0 0 1-1 1h-11a1 1 0 0 1-1-1v-7a1 1 0 0 1 1-1Z M8.5 11V7.5a3.5 3.5 0 0 1 7 0V11',
  pin: 'M9 3.5h6 M10 3.5v6L7 13v1.5h10V13l-3-3.5v-6 M12 14.5V21',
  screen: 'M4 4.5h16a1.5 1.5 0 0 1 1.5 1.5v9a1.5 1.5 0 0 1-1.5 1.5H4A1.5 1.5 0 0 1 2.5 15V6A1.5 1.5 0 0 1 4 4.5Z M8.5 20h7 M12 13.5v-6 M9.2 10.2 12 7.4l2.8 2.8',
  'speaker-large': 'M3.5 5h11v14h-11Z M18 5h2.5v3.6H18Z M18 10.2h2.5v3.6H18Z M18 15.4h2.5V19H18Z',
  settings: 'M4 7h9 M18 7h2 M15.5 4.7v4.6 M4 17h2 M11 17h9 M8.5 14.7v4.6 M4 12h5 M14 12h6 M11.5 9.7v4.6',
  chat: 'M4.5 4.5h15A1.5 1.5 0 0 1 21 6v9a1.5 1.5 0 0 1-1.5 1.5H12L7.5 20v-3.5h-3A1.5 1.5 0 0 1 3 15V6a1.5 1.5 0 0 1 1.5-1.5Z M7.5 9h9 M7.5 12.2h6',
  send: 'M4 11.5 20.5 4 14 20.5l-3-6.5-7-2.5Z M11 14l9.5-10',
  down: 'M12 5v14 M6.5 13.5 12 19l5.5-5.5',
  hand: 'M8.3 12.2V5.9a1.4 1.4 0 0 1 2.8 0v4.6 M11.1 10.5V4.2a1.4 1.4 0 0 1 2.8 0v6.3 M13.9 10.8V5.6a1.4 1.4 0 0 1 2.8 0v6.2 M16.7 11.5V8.4a1.4 1.4 0 0 1 2.8 0v6.1a6.5 6.5 0 0 1-6.5 6.5c-2.7 0-4.3-1.1-5.5-3.1L4.3 13.8a1.45 1.45 0 0 1 2.4-1.6l1.6 2.2',
  smile: 'M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17Z M8.2 14a4.4 4.4 0 0 0 7.6 0 M9.2 9.3v.4 M14.8 9.3v.4',
  people: 'M9 11.3a3.4 3.4 0 1 0 0-6.8 3.4 3.4 0 0 0 0 6.8Z M2.5 19.5a6.5 6.5 0 0 1 13 0 M15.5 4.8a3.4 3.4 0 0 1 0 6.2 M17.8 13.6a6.5 6.5 0 0 1 3.7 5.9',
  refresh: 'M20 12a8 8 0 1 1-2.3-5.6 M20 3.5v4.2h-4.2',
} as const;

export type IconName = keyof typeof PATHS;

const SVG = 'http://www.w3.org/2000/svg';

export function icon(name: IconName): SVGSVGElement {
  const svg = document.createElementNS(SVG, 'svg');
  for (const [attribute, value] of [
    ['viewBox', '0 0 24 24'],
    ['class', 'icon'],
    ['aria-hidden', 'true'],
  ] as const) {
    svg.setAttribute(attribute, value);
  }
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', PATHS[name]);
  svg.append(path);
  return svg;
}

/** The mark of the project: a gate that lets three streams through. */
export function logo(): SVGSVGElement {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 32 32');
  svg.setAttribute('class', 'logo');
  svg.setAttribute('aria-hidden', 'true');
  for (const [cls, d] of [
    ['logo-stream', 'M3 10c4-3 6-3 10 0s6 3 10 0 4-2.4 6-2.6'],
    ['logo-stream', 'M3 17c4-3 6-3 10 0s6 3 10 0 4-2.4 6-2.6'],
    ['logo-stream', 'M3 24c4-3 6-3 10 0s6 3 10 0 4-2.4 6-2.6'],
    ['logo-gate', 'M16 3v26'],
  ] as const) {
    const path = document.createElementNS(SVG, 'path');
    path.setAttribute('class', cls);
    path.setAttribute('d', d);
    svg.append(path);
  }
  return svg;
}
