// Every panel of the grid. A new one is one file beside this, and one line in each of the two lists below.

import { condition } from "./condition.js";
import { density } from "./density.js";
import { extremes } from "./extremes.js";
import { flow } from "./flow.js";
import { lipschitz } from "./lipschitz.js";
import { measurement } from "./measurement.js";
import { saddle } from "./saddle.js";
import { sharpness } from "./sharpness.js";
import { timeline } from "./timeline.js";

/** @type {import("../types.js").Panel[]} in the order of their places */
export const PANELS = [
  condition,
  density,
  saddle,
  flow,
  sharpness,
  lipschitz,
  extremes,
  measurement,
  timeline,
].sort((a, b) => a.place - b.place);
