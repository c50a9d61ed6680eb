// What components share: the view, the clock, and answers that load and load again.

import { useEffect, useReducer, useRef, useState } from 'preact/hooks';

import { ApiError } from './api';
import { currentView, onView } from './view';
import type { View } from './view';

const kRetryMs = 2000;

export function useView(): View {
  const [view, set] = useState(currentView);
  useEffect(() => onView(set), []);
  return view;
}

// Renders again every `ms`.
export function useClock(ms: number): number {
  const [now, set] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => set(Date.now()), ms);
    return () => clearInterval(timer);
  }, [ms]);
  return now;
}

// Grows every `ms`, while somebody looks.
export function useTick(ms: number): number {
  const [tick, set] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || set((n) => n + 1), ms);
    return () => clearInterval(timer);
  }, [ms]);
  return tick;
}

export interface Loaded<T> {
  value: T | undefined; // The last answer to this question.
  error: ApiError | undefined; // Of the last try.
  loading: boolean;
}

interface Slot<T> {
  key: string;
  refresh: number;
  asked: number;
  loading: boolean;
  value: T | undefined;
  error: ApiError | undefined;
}

// Answers the question named by `key` (none: ''), and again whenever `refresh`
// grows; one request at a time. When the collector is away, tries until it is back.
// `load` gets the answer before, of the same key.
export function useLoaded<T>(key: string, refresh: number,
                             load: (signal: AbortSignal, before: T | undefined) => Promise<T>): Loaded<T> {
  const [, render] = useReducer((n: number) => n + 1, 0);
  const slot = useRef<Slot<T>>({ key: '', refresh: 0, asked: -1, loading: false, value: undefined, error: undefined });
  const newest = useRef({ load, refresh });
  newest.current = { load, refresh };
  const wake = useRef<() => void>(() => {});
  if (slot.current.key !== key) {
    slot.current = { key, refresh, asked: -1, loading: key !== '', value: undefined, error: undefined };
  }
  useEffect(() => {
    if (key === '') return undefined;
    const own = slot.current;
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const run = async () => {
      if (own.asked === newest.current.refresh && own.error === undefined) return;
      own.asked = newest.current.refresh;
      own.loading = true;
      try {
        own.value = await newest.current.load(abort.signal, own.value);
        own.error = undefined;
      } catch (error) {
        if (abort.signal.aborted) return;
        own.error = error instanceof ApiError ? error : new ApiError(-1, 'INTERNAL', String(error));
        if (own.error.away) timer = setTimeout(() => void run(), kRetryMs);
      }
      own.loading = false;
      if (abort.signal.aborted) return;
      render(0);
      if (own.asked !== newest.current.refresh && own.error === undefined) void run();
    };
    wake.current = () => {
      if (!own.loading) void run();
    };
    own.loading = false;
    void run();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [key]);
  useEffect(() => wake.current(), [refresh]);
  const { value, error, loading } = slot.current;
  return { value, error, loading: loading || (key !== '' && value === undefined && error === undefined) };
}

// The last answer there was, while the next question of the same group is under way:
// what is shown does not come and go.
export function useKept<T>(loaded: Loaded<T>, group: string): { value: T | undefined; stale: boolean } {
  const kept = useRef<{ group: string; value: T | undefined }>({ group, value: undefined });
  if (kept.current.group !== group) kept.current = { group, value: undefined };
  if (loaded.value !== undefined) kept.current.value = loaded.value;
  else if (!loaded.loading && loaded.error?.away !== true) kept.current.value = undefined;
  return { value: kept.current.value, stale: loaded.value === undefined };
}

// The size of an element in CSS pixels.
export function useWidth(): [(element: HTMLElement | null) => void, number] {
  const [width, set] = useState(0);
  const observer = useRef<ResizeObserver>();
  const attach = useRef((element: HTMLElement | null) => {
    observer.current?.disconnect();
    if (element === null) return;
    observer.current = new ResizeObserver((entries) => set(Math.floor(entries[0]!.contentRect.width)));
    observer.current.observe(element);
  });
  return [attach.current, width];
}

// Whether the page is dark now; follows the system unless the user has chosen.
export function useDark(): boolean {
  const query = matchMedia('(prefers-color-scheme: dark)');
  const is = () => (document.documentElement.dataset.theme ?? (query.matches ? 'dark' : 'light')) === 'dark';
  const [dark, set] = useState(is);
  useEffect(() => {
    const change = () => set(is());
    query.addEventListener('change', change);
    window.addEventListener('gradtap-theme', change);
    return () => {
      query.removeEventListener('change', change);
      window.removeEventListener('gradtap-theme', change);
    };
  }, []);
  return dark;
}
