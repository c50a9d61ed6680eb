// What is looked at, and the URL that says so.
//
// Everything but the theme is in the query string, so that a link is a view. Pins
// that would make it longer than servers take go behind the '#'.

export interface View {
  run: string;
  vs: string; // A second run beside it.
  stat: string;
  match: string; // RE2 over names.
  module: string; // Only what lies in this module.
  health: string; // Only what a category of health.ts affects.
  steps: [number | null, number | null]; // [begin, end); negative from the end.
  ranks: number[]; // Empty: the lowest.
  merged: boolean;
  attempt: number; // 0: the canonical line.
  pins: string[];
  columns: string[]; // Statistics of the table.
  sort: string; // A column, "-" before it: ascending.
  role: string; // Of the distributions.
  scalar: string; // Beside the pinned lines; '': the loss.
}

export const kMostPins = 20;
export const kMostRanks = 8;
const kLongestQuery = 3000;

export const kFirstView: View = {
  run: '', vs: '', stat: 'grad.l2', match: '', module: '', health: '', steps: [null, null],
  ranks: [], merged: false, attempt: 0, pins: [],
  columns: ['grad.l2', 'weight.l2', 'update.ratio', 'grad.nonfinite'], sort: '', role: 'grad', scalar: '',
};

function whole(text: string): number | null {
  return /^-?\d{1,15}$/.test(text) ? Number(text) : null;
}

// What makes no sense is left out: an old link shows what it can.
export function parseView(search: string, hash: string): View {
  const view: View = { ...kFirstView };
  const from = new URLSearchParams(search);
  const extra = new URLSearchParams(hash.replace(/^#/, ''));
  view.run = from.get('run') ?? '';
  view.vs = from.get('vs') ?? '';
  view.stat = from.get('stat') || kFirstView.stat;
  view.match = from.get('match') ?? '';
  view.module = from.get('in') ?? '';
  view.health = from.get('health') ?? '';
  const steps = /^(-?\d*):(-?\d*)$/.exec(from.get('steps') ?? '');
  if (steps) view.steps = [whole(steps[1]!), whole(steps[2]!)];
  for (const rank of (from.get('rank') ?? '').split(',')) {
    if (rank === 'merged') view.merged = true;
    const n = whole(rank);
    if (n !== null && n >= 0 && view.ranks.length < kMostRanks) view.ranks = [...view.ranks, n];
  }
  view.attempt = Math.max(0, whole(from.get('attempt') ?? '') ?? 0);
  view.pins = [...new Set([...from.getAll('pin'), ...extra.getAll('pin')])].slice(0, kMostPins);
  const columns = (from.get('cols') ?? '').split(',').filter((name) => name !== '');
  if (columns.length > 0) view.columns = columns.slice(0, 12);
  view.sort = from.get('sort') ?? '';
  view.role = from.get('role') || kFirstView.role;
  view.scalar = from.get('scalar') ?? '';
  return view;
}

export function urlOfView(view: View): string {
  const to = new URLSearchParams();
  const put = (name: string, value: string, usual: string) => {
    if (value !== usual) to.set(name, value);
  };
  put('run', view.run, '');
  put('vs', view.vs, '');
  put('stat', view.stat, kFirstView.stat);
  put('match', view.match, '');
  put('in', view.module, '');
  put('health', view.health, '');
  put('steps', `${view.steps[0] ?? ''}:${view.steps[1] ?? ''}`, ':');
  put('rank', [...(view.merged ? ['merged'] : []), ...view.ranks].join(','), '');
  put('attempt', String(view.attempt), '0');
  put('cols', view.columns.join(','), kFirstView.columns.join(','));
  put('sort', view.sort, '');
  put('role', view.role, kFirstView.role);
  put('scalar', view.scalar, '');
  const pins = new URLSearchParams(view.pins.map((pin): [string, string] => ['pin', pin]));
  const short = to.toString().length + pins.toString().length <= kLongestQuery;
  const parts = [to.toString(), short ? pins.toString() : ''].filter((part) => part !== '');
  return `${location.pathname}${parts.length ? `?${parts.join('&')}` : ''}${short ? '' : `#${pins}`}`;
}

type Listener = (view: View) => void;
const listeners = new Set<Listener>();
let current: View = parseView(location.search, location.hash);

export const currentView = (): View => current;

// `replace`: the Back button passes over the view before this one.
export function setView(change: Partial<View>, replace = false): void {
  const next = { ...current, ...change };
  const url = urlOfView(next);
  const same = url === location.pathname + location.search + location.hash;
  current = next;
  if (!same) {
    if (replace) history.replaceState(null, '', url);
    else history.pushState(null, '', url);
  }
  for (const listener of listeners) listener(current);
}

export function onView(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function togglePin(name: string): void {
  const pins = current.pins.includes(name)
    ? current.pins.filter((pin) => pin !== name)
    : [...current.pins, name].slice(-kMostPins);
  setView({ pins });
}

window.addEventListener('popstate', () => {
  current = parseView(location.search, location.hash);
  for (const listener of listeners) listener(current);
});
