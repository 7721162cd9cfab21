// Ours: hands the classic script, which index.html loads first, to modules, under the types of uPlot.d.ts.
export default globalThis.uPlot;
