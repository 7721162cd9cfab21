/** What the page is handed, and what its scripts hand each other. */

export interface Quantity {
  label: string;
  log: boolean;
  share: boolean;
}

export interface Bins {
  low: number;
  high: number;
  counts: number[];
  expected: number[];
  law: [number[], number[]];
  below: number;
}

export interface Curves {
  count: number;
  sigma: number[];
  held: number[];
  floor: number;
  edge: number;
  spikes: number;
  ranks: [number, number, number];
  bins: Bins | null;
  cut?: Cut;
}

/** What a compression made of a matrix: the rank it kept, null where none, and that from which on two factors don't pay. */
export interface Cut {
  rank: number | null;
  even: number;
}

/** One thing that was measured for each budget. */
export interface Curve {
  title: string;
  note: string;
  share: boolean;
  x: number[];
  y: number[];
}

export interface Row {
  title: string;
  about: string;
  sentence: string;
  problem: string | null;
  values: (number | null)[];
  numbers: string[];
  curves: Curves | null;
}

export interface Report {
  matrix: string;
  first: number | null;
  quantities: Quantity[];
  definitions: [string, string][];
  places: Record<string, number[]>;
  budgets?: { at: number | null; curves: Curve[] };
  rows: Row[];
  grid: { kinds: string[]; layers: (number | null)[]; cells: (number | null)[][] };
}

export interface Axis {
  low: number;
  high: number;
  log?: boolean;
  whole?: boolean; // only whole numbers have ticks
  title: string;
  ticks?: number[];
  format: (value: number) => string;
}

export interface Plot {
  svg: SVGSVGElement;
  x: (value: number) => number;
  y: (value: number) => number;
  left: number;
  right: number;
  top: number;
  bottom: number;
}
