// Queries of the collector that served this page; of no other host.
//
// A request that does not fit into a URL is POSTed. Failures are ApiError: with
// the collector's own words, or with status 0 where there was no answer.

import { readHeatMap, readSeries, readSnapshot } from './messages';
import type { HeatAnswer, SeriesData, Snapshot, Gap } from './messages';

export class ApiError extends Error {
  constructor(readonly status: number, readonly code: string, message: string) {
    super(message);
  }
  // Nobody answered, or the collector is going down.
  get away(): boolean {
    return this.status === 0 || this.status === 502 || this.status === 503;
  }
}

type Plain = string | number | boolean;
export type Fields = { [name: string]: Plain | Plain[] | Fields | undefined };

const kLongestUrl = 4000;

function flat(fields: Fields, prefix: string, to: URLSearchParams): void {
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    if (Array.isArray(value)) for (const one of value) to.append(prefix + name, String(one));
    else if (typeof value === 'object') flat(value, `${prefix}${name}.`, to);
    else to.append(prefix + name, String(value));
  }
}

// The path and query of a GET.
export function urlOf(method: string, fields: Fields): string {
  const parameters = new URLSearchParams();
  flat(fields, '', parameters);
  const text = parameters.toString();
  return `/api/v1/${method}${text ? `?${text}` : ''}`;
}

async function ask(method: string, fields: Fields, accept: string, signal?: AbortSignal): Promise<Response> {
  const url = urlOf(method, fields);
  const long = url.length > kLongestUrl;
  let response: Response;
  try {
    response = long
      ? await fetch(`/api/v1/${method}`, {
          method: 'POST', signal: signal ?? null, body: JSON.stringify(fields),
          headers: { Accept: accept, 'Content-Type': 'application/json' },
        })
      : await fetch(url, { signal: signal ?? null, headers: { Accept: accept } });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, 'UNAVAILABLE', 'the collector does not answer');
  }
  if (response.ok) return response;
  let code = String(response.status);
  let message = response.statusText;
  try {
    const body = (await response.json()) as { code?: unknown; message?: unknown };
    code = String(body.code ?? code);
    message = String(body.message ?? message);
  } catch {
    // Not the collector's: its status alone.
  }
  throw new ApiError(response.status, code, message);
}

async function bytes(method: string, fields: Fields, signal?: AbortSignal): Promise<Uint8Array> {
  const response = await ask(method, fields, 'application/x-protobuf', signal);
  try {
    return new Uint8Array(await response.arrayBuffer());
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, 'UNAVAILABLE', 'the collector went away within its answer');
  }
}

export async function json<T>(method: string, fields: Fields, signal?: AbortSignal): Promise<T> {
  const response = await ask(method, fields, 'application/json', signal);
  try {
    return (await response.json()) as T;
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, 'UNAVAILABLE', 'the collector went away within its answer');
  }
}

export async function heatMap(fields: Fields, signal?: AbortSignal): Promise<HeatAnswer> {
  return readHeatMap(await bytes('GetHeatMap', fields, signal));
}

export async function series(fields: Fields, signal?: AbortSignal): Promise<{ series: SeriesData[]; gaps: Gap[] }> {
  return readSeries(await bytes('GetSeries', fields, signal));
}

export async function snapshot(fields: Fields, signal?: AbortSignal): Promise<Snapshot> {
  return readSnapshot(await bytes('GetSnapshot', fields, signal));
}

// As JSON has them: 64-bit integers and what JSON cannot say are strings.
export type Num = number | string;

export interface RunInfo {
  run: string;
  state: string;
  stateSinceUnixNs: string;
  ranks: number;
  worldSize: number;
  attempts: number;
  firstStep: string;
  lastStep: string;
  storedSteps: string;
  skippedSteps: string;
  lostSteps: string;
  startTimeUnixNs: string;
  lastSeenUnixNs: string;
  overhead: Num;
  parameters: number;
}

export interface ParameterInfo {
  name: string;
  kind: string;
  modulePath: string;
  moduleType: string;
  dtype: string;
  shape: string[];
  requiresGrad: boolean;
  numel: string;
  aliases: string[];
  roles: string[];
  unsupportedReason: string;
}

export const listRuns = (signal?: AbortSignal) =>
  json<{ runs: RunInfo[] }>('ListRuns', {}, signal).then((answer) => answer.runs);

export const listParameters = (run: string, rank: number, attempt: number, signal?: AbortSignal) =>
  json<{ parameters: ParameterInfo[] }>('ListParameters', { run, rank, attempt }, signal)
    .then((answer) => answer.parameters);
