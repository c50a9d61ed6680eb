// Colours that the colour-blind can tell apart.
//
// The map of the heat map is made here: in OKLab, lightness rises evenly from dark
// blue to light yellow and the hue turns once, so that it also reads as grey. The
// lines take hues close to those that Okabe and Ito chose, legible on light and dark,
// in three kinds of dash.

type Rgb = [number, number, number];

function encoded(linear: number): number {
  const v = Math.min(1, Math.max(0, linear));
  return Math.round(255 * (v <= 0.0031308 ? 12.92 * v : 1.055 * v ** (1 / 2.4) - 0.055));
}

function oklab(lightness: number, a: number, b: number): Rgb {
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    encoded(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
    encoded(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
    encoded(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s),
  ];
}

function mapAt(t: number): Rgb {
  const lightness = 0.24 + 0.7 * t;
  const hue = ((285 - 180 * t) * Math.PI) / 180;
  const chroma = 0.09 + 0.05 * Math.sin(Math.PI * t) + 0.03 * t;
  return oklab(lightness, chroma * Math.cos(hue), chroma * Math.sin(hue));
}

export const pack = ([r, g, b]: Rgb): number => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;

// As pixels of an ImageData on a little-endian machine: all that browsers run on.
export const kMapSize = 256;
export const kMap: Uint32Array = Uint32Array.from({ length: kMapSize }, (_, i) =>
  pack(mapAt(i / (kMapSize - 1))));

export const mapCss = (t: number): string => `rgb(${mapAt(t).join(' ')})`;

export const kNonFinite: Rgb = [255, 0, 200];
export const kNonFiniteDark: Rgb = [92, 0, 72];

const kHues = ['#2b83c6', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00', '#a39000', '#8a8a8a'];
const kDashes: number[][] = [[], [6, 3], [2, 2]];

export interface LineStyle {
  color: string;
  dash: number[];
}

export const lineStyle = (index: number): LineStyle => ({
  color: kHues[index % kHues.length]!,
  dash: kDashes[Math.floor(index / kHues.length) % kDashes.length]!,
});
