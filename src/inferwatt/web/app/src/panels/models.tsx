/** Joules per output token, by model and server; one line for each provenance, tokens once for all of them. */

import type { JSX } from "preact";
import { type EnergyUnit, count, energy, quantity, rate } from "../format";
import { Badge, Figure, Panel, type Part, Range, Scale, Split, Unknown, Whisker } from "../parts";
import { type ModelView, isComputed } from "../view";

interface Group {
  key: string;
  first: ModelView;
  rows: ModelView[];
}

/** A model on a server may have measured and modelled joules: the tokens are the same ones, counted once. */
function groupsOf(models: ModelView[]): Group[] {
  const groups = new Map<string, Group>();
  for (const row of models) {
    const key = `${row.model_name}\n${row.server}`;
    const group = groups.get(key);
    if (group) group.rows.push(row);
    else groups.set(key, { key, first: row, rows: [row] });
  }
  return [...groups.values()];
}

export function Models({ models, unit }: { models: ModelView[]; unit: EnergyUnit }): JSX.Element {
  const top = Math.max(0, ...models.map((each) => each.high_joules_per_output_token ?? 0));
  const seconds = models[0]?.window_seconds;
  return (
    <Panel
      name="models"
      title="Energy per output token"
      note={seconds === undefined ? "" : `since the agent’s start, bounds at 90%; power and tokens a second: last ${Math.round(seconds)} s`}
    >
      {models.length === 0 ? (
        <p class="empty">No model has done any work yet.</p>
      ) : (
        <table role="table" class="cards">
          <caption class="unseen">Models</caption>
          <thead role="rowgroup">
            <tr role="row">
              <th scope="col" role="columnheader">Model</th>
              <th scope="col" role="columnheader">Per output token</th>
              <Scale top={top} unit={unit} />
              <th scope="col" role="columnheader">Origin</th>
              <th scope="col" role="columnheader" class="number">Power</th>
              <th scope="col" role="columnheader" class="number">Since start</th>
              <th scope="col" role="columnheader">Where it went</th>
              <th scope="col" role="columnheader" class="number">Output</th>
              <th scope="col" role="columnheader" class="number">Requests</th>
            </tr>
          </thead>
          {groupsOf(models).map((group) => (
            <Rows key={group.key} group={group} top={top} unit={unit} />
          ))}
        </table>
      )}
    </Panel>
  );
}

function Rows({ group, top, unit }: { group: Group; top: number; unit: EnergyUnit }): JSX.Element {
  const { first, rows } = group;
  return (
    <tbody role="rowgroup">
      {rows.map((row, at) => (
        <tr role="row" key={row.provenance}>
          {at === 0 && (
            <th scope="rowgroup" role="rowheader" rowSpan={rows.length} class="who">
              <span class="name">{first.model_name || <Unknown />}</span>
              <small>{first.server}</small>
            </th>
          )}
          <Energy row={row} top={top} unit={unit} />
          {at === 0 && <Work first={first} rows={rows.length} />}
        </tr>
      ))}
    </tbody>
  );
}

function Energy({ row, top, unit }: { row: ModelView; top: number; unit: EnergyUnit }): JSX.Element {
  const bounds = {
    low: row.low_joules_per_output_token,
    value: row.joules_per_output_token,
    high: row.high_joules_per_output_token,
  };
  return (
    <>
      <td role="cell" class="hero">
        <Figure of={energy(row.joules_per_output_token, unit)} per="token" />
        <Range {...bounds} unit={unit} />
      </td>
      <td role="cell" class="scale"><Whisker {...bounds} top={top} computed={isComputed(row.provenance)} /></td>
      <td role="cell" class="origin"><Badge provenance={row.provenance} ratio={row.systematic_ratio} /></td>
      <td role="cell" class="number" data-label="Power"><Figure of={quantity(row.power_watts, "W")} /></td>
      <td role="cell" class="number" data-label="Since start"><Figure of={energy(row.energy_joules, unit)} /></td>
      <td role="cell" class="parts"><Split parts={phasesOf(row)} unit={unit} computed={isComputed(row.provenance)} /></td>
    </>
  );
}

function phasesOf(row: ModelView): Part[] {
  return [
    { name: "prefill", joules: row.prefill_joules, colour: "prefill" },
    { name: "decode", joules: row.decode_joules, colour: "decode" },
    { name: "idle", joules: row.idle_joules, colour: "idle" },
    { name: "unlisted", joules: row.unlisted_joules, colour: "unlisted" },
  ];
}

function Work({ first, rows }: { first: ModelView; rows: number }): JSX.Element {
  return (
    <>
      <td role="cell" class="number" rowSpan={rows} data-label="Output">
        <span class="figure">{rate(first.output_tokens_per_second)}<span class="unit">{"\u202f"}token/s</span></span>
        <small>{count(first.output_tokens)} in all</small>
      </td>
      <td role="cell" class="number last" rowSpan={rows} data-label="Requests">
        <span class="figure">{count(first.requests)}</span>
        <small>{count(first.open_requests)} open</small>
      </td>
    </>
  );
}
