// Keys of the whole page, and the sheet that lists them.

import { useEffect, useState } from 'preact/hooks';

import { currentView, setView } from './view';

const kKeys: [string, string][] = [
  ['/', 'filter by a pattern'],
  ['h', 'to the heat map'],
  ['arrows', 'in the heat map: parameter and step; with Shift ten at a time'],
  ['Enter', 'in the heat map: pin, or unpin'],
  ['+  −  0', 'in the heat map: closer, farther, all steps'],
  ['u', 'unpin all'],
  ['a', 'all parameters: no filter, no module'],
  ['t', 'light, dark, or as the system'],
  ['?', 'this list'],
];

const kThemes = ['', 'light', 'dark'] as const;
const kThemeKey = 'gradtap-theme';

export function applyTheme(): void {
  let theme: string | null = null;
  try {
    theme = localStorage.getItem(kThemeKey);
  } catch {
    // No storage: as the system.
  }
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  window.dispatchEvent(new Event('gradtap-theme'));
}

export function nextTheme(): void {
  const now = document.documentElement.dataset.theme ?? '';
  const next = kThemes[(kThemes.indexOf(now as '') + 1) % kThemes.length]!;
  try {
    if (next === '') localStorage.removeItem(kThemeKey);
    else localStorage.setItem(kThemeKey, next);
  } catch {
    // It holds until the page is loaded again.
  }
  applyTheme();
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLInputElement || target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement;
}

function press(key: string): boolean {
  switch (key) {
    case '/': document.getElementById('filter')?.focus(); return true;
    case 'h': document.querySelector<HTMLElement>('.heat canvas.over')?.focus(); return true;
    case 'u': if (currentView().pins.length > 0) setView({ pins: [] }); return true;
    case 'a': setView({ match: '', module: '', health: '' }); return true;
    case 't': nextTheme(); return true;
    default: return false;
  }
}

export function Keys() {
  const [open, setOpen] = useState(false);
  useEffect(() => {
    const on = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
      if (event.key === '?') setOpen((is) => !is);
      else if (event.key === 'Escape') setOpen(false);
      else if (!press(event.key)) return;
      if (event.key !== 'Escape') event.preventDefault();
    };
    document.addEventListener('keydown', on);
    return () => document.removeEventListener('keydown', on);
  }, []);
  return (
    <>
      <button onClick={nextTheme} title="Light, dark, or as the system (t)">theme</button>
      <button onClick={() => setOpen(!open)} aria-expanded={open} title="Keys (?)">?</button>
      {open && (
        <div class="sheet" role="dialog" aria-label="Keys">
          <h2>Keys</h2>
          <dl>{kKeys.map(([key, what]) => <><dt><kbd>{key}</kbd></dt><dd>{what}</dd></>)}</dl>
          <button onClick={() => setOpen(false)}>close</button>
        </div>
      )}
    </>
  );
}
