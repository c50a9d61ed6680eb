// The live tail: one EventSource, of the run that is looked at.
//
// It asks for scalars alone: what has been stored is told by its steps, and what
// the page shows of them it asks for itself, at its own pace. A stream that ends
// is opened again, for as long as the run is looked at.

import { useEffect, useState } from 'preact/hooks';

import { urlOf } from './api';
import type { RunInfo } from './api';

const kRetryMs = 3000;
const kLeaveMs = 5000; // After which a tab that nobody sees gives its stream back.
const kQuickMs = 200;
const kSlowMs = 1000;
const kPace = 64; // Steps over which the pace is taken.

export interface Live {
  info: RunInfo | undefined; // As of the last change of state.
  step: number; // The newest; -1: none yet.
  stepTimeMs: number; // When it was captured.
  stepsPerSecond: number; // NaN: unknown.
  scalars: string[]; // Names of those that the newest step has.
  quick: number; // Grows with new steps, at most five times a second.
  slow: number; // At most once a second.
  anew: number; // Grows when steps have been replaced: what was read is stale.
  gaps: number; // Grows with each gap.
  open: boolean;
}

const kNone: Live = {
  info: undefined, step: -1, stepTimeMs: 0, stepsPerSecond: NaN, scalars: [], quick: 0, slow: 0, anew: 0, gaps: 0, open: false,
};

interface Message {
  snapshot?: { step: string; timeUnixNs: string; rank: number; attempt: number; scalars: { name: string }[] };
  run?: RunInfo;
  gap?: unknown;
}

class Tail {
  private source: EventSource | undefined;
  private state: Live = { ...kNone };
  private timer: ReturnType<typeof setTimeout> | undefined;
  private flush: ReturnType<typeof setTimeout> | undefined;
  private leaving: ReturnType<typeof setTimeout> | undefined;
  private lastSlow = 0;
  private lastQuick = 0;
  private attempt = 0;
  private rank = -1;
  private broken = false;
  private readonly pace: [number, number][] = [];

  constructor(private readonly run: string, private readonly tell: (live: Live) => void) {
    this.open();
    document.addEventListener('visibilitychange', this.look);
  }

  close(): void {
    document.removeEventListener('visibilitychange', this.look);
    clearTimeout(this.leaving);
    clearTimeout(this.settle);
    this.source?.close();
    clearTimeout(this.timer);
    clearTimeout(this.flush);
  }

  private open(): void {
    const source = new EventSource(urlOf('Watch', { run: this.run, statistics: ['scalar.*', 'agent.*'] }));
    this.source = source;
    source.onopen = () => {
      // What happened meanwhile is not known.
      if (this.broken) {
        this.pace.length = 0;
        this.state = { ...this.state, anew: this.state.anew + 1 };
      }
      this.broken = false;
      this.change({ open: true });
    };
    source.onmessage = (event) => this.take(event.data as string);
    // Both the stream's own last word and a connection that is cut off.
    source.onerror = () => {
      this.cut();
      this.timer = setTimeout(() => this.open(), kRetryMs);
    };
  }

  private cut(): void {
    this.broken = true;
    this.change({ open: false });
    this.source?.close();
    this.source = undefined;
    clearTimeout(this.timer);
  }

  // A browser has six connections to a host, for all its tabs, and the collector 32
  // streams for all who look: who does not look has none.
  private readonly look = (): void => {
    clearTimeout(this.leaving);
    if (document.hidden) {
      this.leaving = setTimeout(() => this.cut(), kLeaveMs);
    } else if (this.source === undefined) {
      clearTimeout(this.timer);
      this.open();
    }
  };

  private take(text: string): void {
    let message: Message;
    try {
      message = JSON.parse(text) as Message;
    } catch {
      return;
    }
    if (message.run) this.change({ info: message.run });
    if (message.gap) this.change({ gaps: this.state.gaps + 1 });
    if (message.snapshot) this.takeStep(message.snapshot);
  }

  private takeStep(snapshot: NonNullable<Message['snapshot']>): void {
    const step = Number(snapshot.step);
    const ms = Number(snapshot.timeUnixNs) / 1e6;
    // Of several ranks the lowest sets the pace.
    if (this.rank < 0 || snapshot.rank < this.rank) {
      this.rank = snapshot.rank;
      this.pace.length = 0;
    }
    const first = snapshot.rank === this.rank;
    const back = first && (snapshot.attempt !== this.attempt || step <= this.state.step);
    if (back && this.state.step >= 0) {
      this.state = { ...this.state, anew: this.state.anew + 1, step: -1 };
      this.pace.length = 0;
    }
    if (first) {
      this.attempt = snapshot.attempt;
      this.pace.push([step, ms]);
      if (this.pace.length > kPace) this.pace.shift();
      const scalars = snapshot.scalars.map((one) => one.name);
      const same = scalars.join('\n') === this.state.scalars.join('\n');
      this.state = {
        ...this.state, step, stepTimeMs: ms, stepsPerSecond: this.speed(), scalars: same ? this.state.scalars : scalars,
      };
    }
    this.later();
  }

  private speed(): number {
    const [from, to] = [this.pace[0]!, this.pace[this.pace.length - 1]!];
    const seconds = (to[1] - from[1]) / 1000;
    return seconds > 0 ? (to[0] - from[0]) / seconds : this.state.stepsPerSecond;
  }

  private change(part: Partial<Live>): void {
    this.state = { ...this.state, ...part };
    this.later();
  }

  private later(): void {
    const due = this.lastQuick + kQuickMs - performance.now();
    this.flush ??= setTimeout(() => {
      this.flush = undefined;
      this.lastQuick = performance.now();
      const slow = performance.now() - this.lastSlow >= kSlowMs;
      if (slow) this.lastSlow = performance.now();
      this.state = { ...this.state, quick: this.state.quick + 1, slow: this.state.slow + (slow ? 1 : 0) };
      this.tell(this.state);
      // The last steps of a burst are shown, too.
      if (!slow) this.trail();
    }, Math.max(0, due));
  }

  private trail(): void {
    clearTimeout(this.settle);
    this.settle = setTimeout(() => {
      this.state = { ...this.state, slow: this.state.slow + 1 };
      this.lastSlow = performance.now();
      this.tell(this.state);
    }, kSlowMs);
  }

  private settle: ReturnType<typeof setTimeout> | undefined;
}

// Without a stream (of another run, or all are taken): what the list of runs says.
export function liveOf(info: RunInfo): Live {
  const step = Number(info.lastStep);
  return { ...kNone, info, step, stepTimeMs: Number(info.lastSeenUnixNs) / 1e6, quick: step, slow: step, anew: info.attempts };
}

// Of no run: ''.
export function useLive(run: string): Live {
  const [live, set] = useState<{ run: string; live: Live }>({ run: '', live: kNone });
  useEffect(() => {
    if (run === '') return undefined;
    const tail = new Tail(run, (state) => set({ run, live: state }));
    return () => tail.close();
  }, [run]);
  return live.run === run ? live.live : kNone;
}
