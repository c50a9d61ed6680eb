// Draws the heat map's two canvases: cells and axes; the cursor and what is pinned.

import { drawGaps, drawLabels, drawSteps, inkOf, kRail } from './heat_axes';
import type { Geometry } from './heat_axes';
import type { Cell, Drawn } from './heat_cell';
import { columnsAt, paint } from './heat_paint';
import type { ColorTable, PooledRows, StepScale } from './heat_paint';
import type { ModuleNode } from './modules';

// "#rrggbb" as a pixel.
function packed(css: string): number {
  const hex = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(css.trim());
  const [r, g, b] = hex ? [1, 2, 3].map((i) => parseInt(hex[i]!, 16)) : [128, 128, 128];
  return ((255 << 24) | (b! << 16) | (g! << 8) | r!) >>> 0;
}

export function drawMap(canvas: HTMLCanvasElement, pooled: PooledRows, scale: StepScale, geometry: Geometry,
                        colors: ColorTable, tree: ModuleNode): Drawn {
  const { gutter, width, ratio } = geometry;
  const context = canvas.getContext('2d')!;
  const ink = inkOf(canvas);
  const style = getComputedStyle(canvas);
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  const w = Math.round(width * ratio);
  const rail = Math.round((kRail - 2) * ratio);
  const at = columnsAt(pooled.data, scale, w);
  const image = context.createImageData(w, pooled.height + rail);
  paint(pooled, at, w, rail, colors, {
    gap: packed(style.getPropertyValue('--gap')), gapLine: packed(style.getPropertyValue('--gap-line')),
    absent: packed(style.getPropertyValue('--absent')),
  }, new Uint32Array(image.data.buffer));
  const left = Math.round(gutter * ratio);
  context.putImageData(image, left, 0, 0, 0, w, rail);
  context.putImageData(image, left, Math.round(kRail * ratio) - rail, 0, rail, w, pooled.height);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  drawSteps(context, scale, geometry, ink);
  drawGaps(context, pooled.data.gaps, scale, geometry, ink);
  const labels = drawLabels(context, tree, geometry, ink);
  return { pooled, scale, at, geometry, tree, labels, colors };
}

// `drag`: where the choice of steps began.
export function drawCursor(canvas: HTMLCanvasElement, drawn: Drawn, cell: Cell | undefined, drag: number | undefined,
                           pins: string[]): void {
  const context = canvas.getContext('2d')!;
  const { gutter, width, height, ratio } = drawn.geometry;
  const ink = inkOf(canvas);
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = ink.accent;
  drawPins(context, drawn, pins);
  if (cell === undefined) return;
  const x = gutter + (cell.x + 0.5) / ratio;
  const y = kRail + (cell.y + 0.5) / ratio;
  if (drag !== undefined) {
    context.globalAlpha = 0.3;
    const from = gutter + (drag + 0.5) / ratio;
    context.fillRect(Math.min(from, x), 0, Math.abs(x - from), kRail + height);
    context.globalAlpha = 1;
  }
  // White with a dark edge: seen on every colour of the map.
  for (const [color, thick] of [['#00000080', 3], ['#ffffffd0', 1]] as const) {
    context.fillStyle = color;
    context.fillRect(Math.round(x) - thick / 2, 0, thick, kRail + height);
    context.fillRect(gutter, Math.round(y) - thick / 2, width, thick);
  }
}

function drawPins(context: CanvasRenderingContext2D, drawn: Drawn, pins: string[]): void {
  if (pins.length === 0) return;
  const { pooled, geometry } = drawn;
  const perRow = geometry.height / Math.max(1, pooled.rows.length);
  const pinned = new Set(pins);
  pooled.rows.forEach((row, i) => {
    if (!pinned.has(pooled.data.name(row))) return;
    context.fillRect(geometry.gutter + geometry.width + 2, kRail + i * perRow, 4, Math.max(2, perRow - 1));
  });
}
