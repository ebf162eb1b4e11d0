// Lines over the last minutes: percent of a GPU, 0 to 100, drawn by uPlot.
/* global uPlot */

import { clock } from "./format.js";

// Seconds that the axis of time has at least.
const SHORTEST = 60;

const style = () => getComputedStyle(document.documentElement);

function percentAxis(colour, grid) {
  return {
    stroke: colour,
    grid: { stroke: grid, width: 1 },
    ticks: { show: false },
    font: "11px system-ui, sans-serif",
    size: 38,
    splits: (_, __, ___, max) => (max > 100 ? [0, 50, 100, max] : [0, 50, 100]),
    values: (_, splits) => splits.map((value) => `${Math.round(value)}%`),
  };
}

function spanOf(times) {
  if (!times.length) return [0, SHORTEST];
  const last = times[times.length - 1];
  return [Math.min(times[0], last - SHORTEST), last];
}

export class PercentChart {
  // `lines` are { label, colour (a CSS custom property), dashed, filled }.
  constructor(parent, lines, height) {
    this.parent = parent;
    this.lines = lines;
    this.height = height;
    this.data = [[], ...lines.map(() => [])];
    this.resizing = new ResizeObserver(() => this.#resize());
    this.resizing.observe(parent);
    this.build();
  }

  // Again, where the colours changed.
  build() {
    if (this.plot) this.plot.destroy();
    const css = style();
    const muted = css.getPropertyValue("--muted").trim();
    const grid = css.getPropertyValue("--line").trim();
    this.plot = new uPlot(
      {
        width: Math.max(this.parent.clientWidth, 120),
        height: this.height,
        cursor: { show: false },
        legend: { show: false },
        padding: [6, 26, 0, 0],
        scales: {
          x: { time: true, range: (plot) => spanOf(plot.data[0]) },
          // Limits may add up to far more than a GPU; the use is what should be legible.
          y: { range: (_, __, most) => [0, Math.min(Math.max(100, most || 0), 200)] },
        },
        axes: [
          {
            stroke: muted,
            grid: { show: false },
            ticks: { show: false },
            font: "11px system-ui, sans-serif",
            size: 22,
            space: 70,
            values: (_, splits) => splits.map(clock),
          },
          percentAxis(muted, grid),
        ],
        series: [
          {},
          ...this.lines.map((line) => {
            const colour = css.getPropertyValue(line.colour).trim();
            return {
              label: line.label,
              stroke: colour,
              width: line.dashed ? 1.5 : 2,
              dash: line.dashed ? [5, 4] : undefined,
              fill: line.filled ? `${colour}26` : undefined,
              points: { show: false },
            };
          }),
        ],
      },
      this.data,
      this.parent,
    );
  }

  set(times, ...values) {
    this.data = [times, ...values];
    this.plot.setData(this.data);
  }

  destroy() {
    this.resizing.disconnect();
    this.plot.destroy();
  }

  #resize() {
    const width = this.parent.clientWidth;
    if (width && width !== this.plot.width) this.plot.setSize({ width, height: this.height });
  }
}
