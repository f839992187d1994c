/** Power now and over the last minutes, by device; the table beside the chart reads the moment under the line. */

import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { type Chart, type Layer, draw } from "../chart";
import { type EnergyUnit, clock, energy, quantity } from "../format";
import type { History } from "../history";
import { Badge, Choice, Figure, Panel } from "../parts";
import { useChoice } from "../settings";
import { type DeviceView, type LiveView, PROVENANCES, isComputed } from "../view";

const WINDOWS = ["1 min", "5 min", "15 min"] as const;
const COLOURS = 8;

interface Props {
  view: LiveView;
  history: History;
  unit: EnergyUnit;
  dark: boolean;
}

export function Power({ view, history, unit, dark }: Props): JSX.Element {
  const [shown, choose] = useChoice("window", WINDOWS, "5 min");
  const [at, read] = useState<number | null>(null);
  const readAt = at !== null && at < history.unixSeconds.length ? at : null;
  return (
    <Panel
      name="power"
      title="Power"
      note={readAt === null ? "now" : `at ${clock(history.unixSeconds[readAt]!)}`}
      tools={<Choice label="Time shown" values={WINDOWS} value={shown} onChange={choose} />}
    >
      <Totals devices={view.devices} />
      <Plot view={view} history={history} dark={dark} seconds={parseInt(shown) * 60} onRead={read} />
      <Devices devices={view.devices} unit={unit} wattsAt={(device) => wattsAt(history, device, readAt)} />
    </Panel>
  );
}

/** The watts of the moment that is read, undefined where none is. */
function wattsAt(history: History, device: DeviceView, at: number | null): number | null {
  if (at === null) return device.stale ? null : device.power_watts;
  return history.watts.get(device.device)?.[at] ?? null;
}

/** One large figure for each provenance: watts of different origin are shown together, never added. */
function Totals({ devices }: { devices: DeviceView[] }): JSX.Element {
  const known = devices.filter((each) => !each.stale && each.power_watts !== null);
  const totals = PROVENANCES.map((provenance) => {
    const group = known.filter((each) => each.provenance === provenance);
    const watts = group.reduce((sum, each) => sum + (each.power_watts ?? 0), 0);
    const off = group.reduce((sum, each) => sum + (each.power_watts ?? 0) * each.systematic_ratio, 0);
    return { provenance, watts, ratio: watts > 0 ? off / watts : null, there: group.length > 0 };
  }).filter((each) => each.there);
  return (
    <div class="totals">
      {totals.map(({ provenance, watts, ratio }) => (
        <div key={provenance}>
          <Figure of={quantity(watts, "W")} />
          <Badge provenance={provenance} ratio={ratio} />
        </div>
      ))}
      {totals.length === 0 && (
        <div>
          <Figure of={quantity(null, "W")} />
          <span class="badge">no device answers</span>
        </div>
      )}
    </div>
  );
}

function layersOf(devices: DeviceView[]): Layer[] {
  const style = getComputedStyle(document.documentElement);
  return devices.map((each, at) => ({
    device: each.device,
    colour: style.getPropertyValue(`--device-${at % COLOURS}`).trim(),
    computed: isComputed(each.provenance),
  }));
}

interface PlotProps {
  view: LiveView;
  history: History;
  dark: boolean;
  seconds: number;
  onRead: (at: number | null) => void;
}

function Plot({ view, history, dark, seconds, onRead }: PlotProps): JSX.Element {
  const host = useRef<HTMLDivElement>(null);
  const chart = useRef<Chart | null>(null);
  const which = view.devices.map((each) => `${each.device}\n${each.provenance}`).join("\n");
  const layers = useMemo(() => layersOf(view.devices), [which, dark]);

  useEffect(() => {
    const element = host.current!;
    chart.current = draw(element, history, layers, onRead);
    chart.current.show(seconds);
    const size = new ResizeObserver(() => chart.current?.resize(element.clientWidth, element.clientHeight));
    size.observe(element);
    return () => {
      size.disconnect();
      chart.current?.destroy();
    };
  }, [layers]);
  useEffect(() => chart.current?.show(seconds), [history.version, seconds, layers]);

  return (
    <div
      class="plot"
      ref={host}
      role="img"
      tabIndex={0}
      aria-label="Power by device, stacked over time. Arrow keys read a moment into the table that follows."
      onKeyDown={(event) => onKey(event, chart.current)}
      onBlur={() => chart.current?.clear()}
    />
  );
}

function onKey(event: KeyboardEvent, chart: Chart | null): void {
  const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30 }[event.key];
  if (steps !== undefined) chart?.step(steps);
  else if (event.key === "Escape") chart?.clear();
  else return;
  event.preventDefault();
}

interface DevicesProps {
  devices: DeviceView[];
  unit: EnergyUnit;
  wattsAt: (device: DeviceView) => number | null;
}

function Devices({ devices, unit, wattsAt }: DevicesProps): JSX.Element {
  return (
    <table role="table" class="devices">
      <caption class="unseen">Devices</caption>
      <thead role="rowgroup">
        <tr role="row">
          <th scope="col" role="columnheader">Device</th>
          <th scope="col" role="columnheader" class="number">Power</th>
          <th scope="col" role="columnheader" class="number">Since start</th>
          <th scope="col" role="columnheader">Origin</th>
        </tr>
      </thead>
      <tbody role="rowgroup">
        {devices.map((each, at) => (
          <tr role="row" key={each.device}>
            <th scope="row" role="rowheader">
              <i class={`swatch device-${at % COLOURS}${isComputed(each.provenance) ? " computed" : ""}`} aria-hidden="true" />
              <span class="name">{each.device}</span>
              <small>{each.stale ? "does not answer" : describe(each)}</small>
            </th>
            <td role="cell" class="number"><Figure of={quantity(wattsAt(each), "W")} /></td>
            <td role="cell" class="number"><Figure of={energy(each.energy_joules, unit)} /></td>
            <td role="cell" class="origin"><Badge provenance={each.provenance} ratio={each.systematic_ratio} /></td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** "accelerator · module"; one word where both say the same. */
function describe(device: DeviceView): string {
  return device.component === device.domain ? device.domain : `${device.component} · ${device.domain}`;
}
