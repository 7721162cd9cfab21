// One hue from the panel's own colour to its opposite, even steps of lightness in OKLab: order is seen, in print and by
// every kind of colour vision, and nothing in it looks like a state.

import { isDark } from "./theme.js";

const LEVELS = 256;

/**
 * @param {number} l
 * @param {number} c
 * @param {number} hue degrees
 * @returns {[number, number, number]} sRGB, 0 to 255
 */
export function oklch(l, c, hue) {
  const a = c * Math.cos((hue * Math.PI) / 180);
  const b = c * Math.sin((hue * Math.PI) / 180);
  const long = (l + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const medium = (l - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const short = (l - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    channel(4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short),
    channel(-1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short),
    channel(-0.0041960863 * long - 0.7034186147 * medium + 1.707614701 * short),
  ];
}

/** @param {number} light linear @returns {number} */
function channel(light) {
  const x = Math.min(1, Math.max(0, light));
  return Math.round(255 * (x <= 0.0031308 ? 12.92 * x : 1.055 * x ** (1 / 2.4) - 0.055));
}

/** @param {boolean} dark @returns {Uint32Array} one packed pixel a level, the lowest first */
export function ramp(dark = isDark()) {
  const pixels = new Uint32Array(LEVELS);
  for (let i = 0; i < LEVELS; i++) {
    const t = i / (LEVELS - 1);
    const lightness = dark ? 0.21 + 0.62 * t : 0.985 - 0.68 * t;
    const chroma = dark ? 0.02 + 0.06 * Math.sin(Math.PI * t) : 0.008 + 0.065 * Math.sin((Math.PI / 1.5) * t);
    const [r, g, b] = oklch(lightness, chroma, 245 + 10 * t);
    pixels[i] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  return pixels;
}

const GROWS = 305; // violet, and
const SHRINKS = 105; // olive: far apart for every kind of colour vision, and neither is a state

/**
 * From one hue over the panel's colour to another, the same lightness at the same distance on either side.
 * @param {boolean} dark
 * @returns {Uint32Array} one packed pixel a level: the middle one is neutral
 */
export function diverging(dark = isDark()) {
  const pixels = new Uint32Array(LEVELS + 1);
  for (let i = 0; i <= LEVELS; i++) {
    const side = (2 * i) / LEVELS - 1;
    const away = Math.abs(side);
    const lightness = dark ? 0.23 + 0.6 * away : 0.97 - 0.55 * away;
    const chroma = away * (side > 0 ? 0.15 : dark ? 0.12 : 0.09);
    const [r, g, b] = oklch(lightness, chroma, side > 0 ? GROWS : SHRINKS);
    pixels[i] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  return pixels;
}

/** @param {string} colour as the browser resolves it: "rgb(1, 2, 3)" @returns {number} a packed pixel */
export function packed(colour) {
  const [r = 0, g = 0, b = 0] = (colour.match(/[\d.]+/g) ?? []).map(Number);
  return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
}

/** @param {HTMLCanvasElement} canvas @param {Uint32Array} [colours] Paint the legend: from left to right. */
export function paintRamp(canvas, colours = ramp()) {
  const context = canvas.getContext("2d");
  if (!context) return;
  canvas.width = colours.length;
  canvas.height = 1;
  const image = context.createImageData(colours.length, 1);
  new Uint32Array(image.data.buffer).set(colours);
  context.putImageData(image, 0, 0);
}
