/** The power chart: devices stacked, drawn by uPlot. Computed power is hatched, so that nobody takes it for metered. */

import uPlot from "uplot";
import { clock } from "./format";
import type { History } from "./history";

export interface Layer {
  device: string;
  colour: string;
  computed: boolean;
}

export interface Chart {
  show(windowSeconds: number): void;
  resize(width: number, height: number): void;
  /** Move the reading line by `steps` points from where it is, or from now. */
  step(steps: number): void;
  clear(): void;
  destroy(): void;
}

const HATCH_PIXELS = 7;

function style(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Mix two #rrggbb colours, `ratio` of the first. */
function mix(first: string, second: string, ratio: number): string {
  const channel = (colour: string, at: number): number => parseInt(colour.slice(at, at + 2), 16);
  const mixed = [1, 3, 5].map((at) => Math.round(channel(first, at) * ratio + channel(second, at) * (1 - ratio)));
  return `rgb(${mixed.join(",")})`;
}

/** Fill of one layer. It is opaque, since each layer covers the foot of the one above it. */
function fillOf(layer: Layer, context: CanvasRenderingContext2D): string | CanvasPattern {
  const panel = style("--panel");
  if (!layer.computed) return mix(layer.colour, panel, 0.42);
  const size = Math.round(HATCH_PIXELS * devicePixelRatio);
  const tile = document.createElement("canvas");
  tile.width = tile.height = size;
  const pen = tile.getContext("2d")!;
  pen.fillStyle = mix(layer.colour, panel, 0.14);
  pen.fillRect(0, 0, size, size);
  pen.strokeStyle = mix(layer.colour, panel, 0.55);
  pen.lineWidth = Math.max(1, devicePixelRatio);
  pen.beginPath();
  for (const shift of [-size, 0, size]) {
    pen.moveTo(shift, size);
    pen.lineTo(shift + size, 0);
  }
  pen.stroke();
  return context.createPattern(tile, "repeat")!;
}

/** Columns for uPlot: the whole stack first, so that lower layers are painted over it. */
function stack(history: History, layers: readonly Layer[], from: number): uPlot.AlignedData {
  const start = Math.max(history.unixSeconds.findIndex((each) => each >= from) - 1, 0);
  const times = history.unixSeconds.slice(start);
  const foot = times.map(() => 0);
  const columns = layers.map((layer) => {
    const column = history.watts.get(layer.device)?.slice(start) ?? [];
    return times.map((_, at) => {
      const watts = column[at] ?? null;
      if (watts !== null) foot[at]! += watts;
      return watts === null ? null : foot[at]!;
    });
  });
  return [times, ...columns.reverse()];
}

function axes(): uPlot.Axis[] {
  const common = {
    stroke: () => style("--ink-2"),
    font: `11px ${style("--font")}`,
    grid: { stroke: () => style("--rule"), width: 1 },
    ticks: { stroke: () => style("--rule"), width: 1, size: 4 },
  };
  return [
    { ...common, size: 26, space: 64, grid: { show: false }, values: (_, times) => timesOf(times) },
    { ...common, size: 46, space: 34, values: (_, watts) => watts.map((each) => `${+each.toFixed(3)} W`) },
  ];
}

/** The time of day at each tick, with seconds only where the ticks need them. */
function timesOf(ticks: number[]): string[] {
  const whole = ticks.every((each) => each % 60 === 0);
  return ticks.map((each) => clock(each).slice(0, whole ? 5 : 8));
}

function seriesOf(layer: Layer): uPlot.Series {
  return {
    stroke: layer.colour,
    width: 1.5,
    fill: (chart) => fillOf(layer, chart.ctx),
    points: { show: false },
    spanGaps: false,
  };
}

/** Draw `history` into `host`; `onRead` hears the index under the reading line, null when it is gone. */
export function draw(
  host: HTMLElement,
  history: History,
  layers: readonly Layer[],
  onRead: (at: number | null) => void,
): Chart {
  let shown = 300;
  let offset = 0;
  const range = (): [number, number] => {
    const now = history.unixSeconds[history.unixSeconds.length - 1] ?? Date.now() / 1000;
    return [now - shown, now];
  };
  const plot = new uPlot(
    {
      width: Math.max(host.clientWidth, 100),
      height: Math.max(host.clientHeight, 100),
      padding: [8, 1, 0, 0],
      legend: { show: false },
      cursor: {
        y: false,
        drag: { x: false, y: false },
        points: { size: 7, width: 1.5 },
      },
      scales: {
        x: { time: true, range },
        y: { range: (_, __, highest) => [0, Math.max((highest ?? 0) * 1.08, 1)] },
      },
      axes: axes(),
      series: [{}, ...[...layers].reverse().map(seriesOf)],
      hooks: {
        setCursor: [
          (chart) => {
            const at = chart.cursor.idx;
            onRead(at == null || (chart.cursor.left ?? -1) < 0 ? null : at + offset);
          },
        ],
      },
    },
    [[], ...layers.map(() => [])],
    host,
  );

  return {
    show(windowSeconds) {
      shown = windowSeconds;
      const data = stack(history, layers, range()[0]);
      offset = history.unixSeconds.length - data[0].length;
      plot.setData(data);
    },
    resize: (width, height) => plot.setSize({ width, height }),
    step(steps) {
      const last = plot.data[0].length - 1;
      const held = plot.cursor.idx != null && (plot.cursor.left ?? -1) >= 0;
      const at = Math.min(Math.max((held ? plot.cursor.idx! : last) + steps, 0), last);
      const time = plot.data[0][at];
      if (time !== undefined) plot.setCursor({ left: plot.valToPos(time, "x"), top: 0 });
    },
    clear: () => plot.setCursor({ left: -10, top: -10 }),
    destroy: () => plot.destroy(),
  };
}
