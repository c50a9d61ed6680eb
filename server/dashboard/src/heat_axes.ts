// What stands around the heat map: module labels, steps, gaps, the cursor.
// Plain canvas; sizes are CSS pixels.

import { labelsOf } from './modules';
import type { Label, ModuleNode } from './modules';
import type { Gap } from './messages';
import type { StepScale } from './heat_paint';
import { shortened } from './text';

export const kRail = 12; // The strip of each column's worst, above the map.
export const kGapRail = 7; // Where steps are missing, below it.
export const kAxis = 20;
const kLabel = 12;

export interface Geometry {
  gutter: number; // Left of the map.
  width: number; // Of the map.
  height: number;
  ratio: number; // Device pixels to one of CSS.
}

export interface Ink {
  text: string;
  faint: string;
  line: string;
  accent: string;
  lost: string;
  skipped: string;
  font: string;
}

export function inkOf(element: HTMLElement): Ink {
  const style = getComputedStyle(element);
  const of = (name: string) => style.getPropertyValue(name).trim();
  return {
    text: of('--text'), faint: of('--faint'), line: of('--line'), accent: of('--accent'), lost: of('--lost'),
    skipped: of('--skipped'), font: of('--mono'),
  };
}

// Round steps at distances of at least `least` pixels.
export function ticksOf(scale: StepScale, width: number, least: number): number[] {
  const span = scale.end - scale.begin;
  const rough = (span * least) / Math.max(1, width);
  const power = 10 ** Math.floor(Math.log10(Math.max(1, rough)));
  const step = Math.max(1, [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough) ?? 10 * power);
  const ticks: number[] = [];
  for (let at = Math.ceil(scale.begin / step) * step; at < scale.end && ticks.length < 100; at += step) ticks.push(at);
  return ticks;
}

export const xOf = (step: number, scale: StepScale, g: Geometry): number =>
  g.gutter + ((step - scale.begin) / (scale.end - scale.begin)) * g.width;

export function drawLabels(context: CanvasRenderingContext2D, tree: ModuleNode, g: Geometry, ink: Ink): Label[] {
  const perRow = g.height / Math.max(1, tree.last);
  const labels = labelsOf(tree, perRow, kLabel);
  const most = Math.floor((g.gutter - 18) / 6.7);
  context.font = `11px ${ink.font}`;
  context.textAlign = 'right';
  context.textBaseline = 'middle';
  for (const label of labels) {
    const top = kRail + label.node.first * perRow;
    const bottom = kRail + label.node.last * perRow;
    const y = Math.min(kRail + g.height - 5, Math.max(kRail + 5, (top + bottom) / 2));
    context.fillStyle = ink.text;
    context.fillText(shortened(label.text, most), g.gutter - 12, y);
    if (label.node.children.length === 0) continue;
    context.fillStyle = ink.line;
    context.fillRect(g.gutter - 6, top + 1, 2, Math.max(1, bottom - top - 2));
  }
  return labels;
}

export function drawSteps(context: CanvasRenderingContext2D, scale: StepScale, g: Geometry, ink: Ink): void {
  const top = kRail + g.height + kGapRail;
  context.font = `11px ${ink.font}`;
  context.textAlign = 'center';
  context.textBaseline = 'top';
  for (const tick of ticksOf(scale, g.width, 90)) {
    const x = xOf(tick, scale, g);
    context.fillStyle = ink.line;
    context.fillRect(Math.round(x), top, 1, 4);
    context.fillStyle = ink.faint;
    const half = String(tick).length * 3.4;
    context.fillText(String(tick), Math.min(Math.max(x, g.gutter + half), g.gutter + g.width - half), top + 6);
  }
}

// Causes below are the user's own choice of interval: calm.
const kChosen = 2;

export const isCalm = (gap: Gap): boolean => (gap.cause >= 1 && gap.cause <= kChosen) || gap.cause === 64;

export function drawGaps(context: CanvasRenderingContext2D, gaps: Gap[], scale: StepScale, g: Geometry, ink: Ink): void {
  const top = kRail + g.height + 2;
  for (const gap of gaps) {
    if (isCalm(gap) || gap.lastStep < scale.begin || gap.firstStep >= scale.end) continue;
    const from = Math.max(g.gutter, xOf(gap.firstStep, scale, g));
    const to = Math.min(g.gutter + g.width, xOf(gap.lastStep + 1, scale, g));
    context.fillStyle = gap.lost ? ink.lost : ink.skipped;
    context.fillRect(from, top, Math.max(2, to - from), kGapRail - 3);
  }
}
