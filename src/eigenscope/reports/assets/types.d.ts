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
  quantities: Quantity[];
  definitions: [string, string][];
  places: Record<string, number[]>;
  rows: Row[];
  grid: { kinds: string[]; layers: (number | null)[]; cells: (number | null)[][] };
}

export interface Axis {
  low: number;
  high: number;
  log?: boolean;
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
