/** Small parts that every panel uses: a figure with its unit, its bounds, and the word for where it comes from. */

import type { ComponentChildren, JSX } from "preact";
import { type EnergyUnit, type Quantity, bound, energy, range, share, UNKNOWN } from "./format";
import { MEANING, type Provenance, isComputed } from "./view";

export function Figure({ of, per }: { of: Quantity; per?: string }): JSX.Element {
  if (of.figure === UNKNOWN) return <Unknown />;
  return (
    <span class="figure">
      {of.figure}
      <span class="unit">
        {"\u202f" + of.unit}
        {per && `/${per}`}
      </span>
    </span>
  );
}

/** What is not known: a dash for eyes, a word for ears; never a zero. */
export function Unknown(): JSX.Element {
  return (
    <span class="unknown">
      <span aria-hidden="true">{UNKNOWN}</span>
      <span class="unseen">unknown</span>
    </span>
  );
}

/** Where a figure comes from and how far its sensor or model can be off. */
export function Badge({ provenance, ratio }: { provenance: Provenance | ""; ratio?: number | null }): JSX.Element {
  if (!provenance) return <Unknown />;
  return (
    <span class="badge" title={MEANING[provenance] ?? ""}>
      <i class={isComputed(provenance) ? "swatch computed" : "swatch"} aria-hidden="true" />
      {ratio != null && <span class="bound">{bound(ratio)}</span>} {provenance}
    </span>
  );
}

interface Bounds {
  low: number | null;
  value: number | null;
  high: number | null;
}

/** The bounds of a figure in words, in its own prefix. */
export function Range({ low, value, high, unit }: Bounds & { unit: EnergyUnit }): JSX.Element | null {
  const words = range(low, high, value, unit);
  return words === null ? null : (
    <span class="range">
      <span class="unseen">between </span>
      {words}
    </span>
  );
}

/** The same bounds as a bar on the scale of the whole table; the words beside it say it to ears. */
export function Whisker({ low, value, high, top, computed }: Bounds & { top: number; computed: boolean }): JSX.Element {
  if (low == null || value == null || high == null || top <= 0) return <span class="whisker" aria-hidden="true" />;
  const percent = (each: number): string => `${Math.min(each / top, 1) * 100}%`;
  return (
    <span class="whisker" aria-hidden="true">
      <i class={computed ? "band computed" : "band"} style={{ left: percent(low), width: percent(high - low) }} />
      <i class="tick" style={{ left: percent(value) }} />
    </span>
  );
}

/** Head of a column of whiskers: where their scale begins and ends. */
export function Scale({ top, unit }: { top: number; unit: EnergyUnit }): JSX.Element {
  return (
    <th scope="col" role="columnheader" class="scale">
      <span class="unseen">Bounds</span>
      {top > 0 && (
        <span class="ends" aria-hidden="true">
          <span>0</span>
          <Figure of={energy(top, unit)} />
        </span>
      )}
    </th>
  );
}

export interface Part {
  name: string;
  joules: number;
  colour: string;
}

/** A whole in its parts, with the share of each in words below. */
export function Split(props: { parts: Part[]; unit: EnergyUnit; full?: boolean; computed: boolean }): JSX.Element {
  const { parts, unit, full, computed } = props;
  const whole = parts.reduce((sum, part) => sum + part.joules, 0);
  const there = parts.filter((part) => part.joules > 0);
  return (
    <div class={`split${full ? " full" : ""}${computed ? " computed" : ""}`}>
      <div class="bar" aria-hidden="true">
        {there.map((part) => (
          <i key={part.name} class={`fill ${part.colour}`} style={{ flexGrow: part.joules / whole }} />
        ))}
      </div>
      <ul>
        {(full ? parts : there).map((part) => (
          <li key={part.name}>
            <i class={`swatch fill ${part.colour}`} aria-hidden="true" />
            {part.name} {full ? <Figure of={energy(part.joules, unit)} /> : ""}
            <span class="share">{share(part.joules, whole)}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}

export function Panel(props: {
  name: string;
  title: string;
  note?: ComponentChildren;
  tools?: ComponentChildren;
  children: ComponentChildren;
}): JSX.Element {
  const id = `title-${props.name}`;
  return (
    <section class={`panel ${props.name}`} aria-labelledby={id}>
      <header>
        <h2 id={id}>{props.title}</h2>
        {props.note && <span class="note">{props.note}</span>}
        {props.tools && <span class="tools">{props.tools}</span>}
      </header>
      {props.children}
    </section>
  );
}

/** A few words of which one is chosen. */
export function Choice<T extends string>(props: {
  label: string;
  values: readonly T[];
  value: T;
  onChange: (value: T) => void;
}): JSX.Element {
  return (
    <span class="choice" role="group" aria-label={props.label}>
      {props.values.map((value) => (
        <button key={value} type="button" aria-pressed={value === props.value} onClick={() => props.onChange(value)}>
          {value}
        </button>
      ))}
    </span>
  );
}
