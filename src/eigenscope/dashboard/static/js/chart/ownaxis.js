// Zoom and pan on an axis that only one panel has: eigenvalues, blocks.

/** @typedef {import("../scales.js").Scale} Scale */

export class OwnAxis {
  /**
   * @param {() => Scale} scale
   * @param {() => [number, number]} whole all of it
   * @param {() => void} onChange
   */
  constructor(scale, whole, onChange) {
    this.scale = scale;
    this.whole = whole;
    this.onChange = onChange;
    /** @type {[number, number]|null} what is zoomed to; null is all */ this.zoomed = null;
  }

  /** @returns {[number, number]} what is shown */
  range() {
    return this.zoomed ?? this.whole();
  }

  /** @param {[number, number]|null} range */
  show(range) {
    this.zoomed = range;
    this.onChange();
  }

  /** @param {(a: number, b: number) => [number, number]} change of the ends, in places on the axis */
  shift(change) {
    const { forward, backward } = this.scale();
    const [a, b] = this.range();
    const [c, d] = change(forward(a), forward(b));
    this.show([backward(c), backward(d)]);
  }

  /** @returns {import("./plot.js").Gestures} */
  gestures() {
    return {
      zoomTo: (min, max) => this.show([min, max]),
      reset: () => this.show(null),
      panBy: (share) => {
        if (this.zoomed) this.shift((a, b) => [a + (b - a) * share, b + (b - a) * share]);
      },
      zoomBy: (factor, at) =>
        this.shift((a, b) => {
          const fixed = at === undefined ? (a + b) / 2 : this.scale().forward(at);
          return [fixed - (fixed - a) * factor, fixed + (b - fixed) * factor];
        }),
    };
  }
}
