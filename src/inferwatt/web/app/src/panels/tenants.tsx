/** Energy by tenant since the agent's start. */

import type { JSX } from "preact";
import { type EnergyUnit, count, energy } from "../format";
import { Badge, Figure, Panel, Range, Scale, Whisker } from "../parts";
import { type TenantView, isComputed } from "../view";

/** The reserved names of records.py, in words; a Map, since a tenant may call itself "constructor". */
const RESERVED = new Map([
  ["__unknown__", "not named"],
  ["__other__", "all others"],
]);

export function Tenant({ name }: { name: string }): JSX.Element {
  const word = RESERVED.get(name);
  return word ? <em class="reserved">{word}</em> : <span class="name">{name}</span>;
}

export function Tenants({ tenants, unit }: { tenants: TenantView[]; unit: EnergyUnit }): JSX.Element {
  const top = Math.max(0, ...tenants.map((each) => each.high_joules));
  return (
    <Panel name="tenants" title="Tenants" note="since the agent's start">
      {tenants.length === 0 ? (
        <p class="empty">No request has ended yet.</p>
      ) : (
        <table role="table">
          <caption class="unseen">Energy by tenant</caption>
          <thead role="rowgroup">
            <tr role="row">
              <th scope="col" role="columnheader">Tenant</th>
              <th scope="col" role="columnheader" class="number">Energy</th>
              <Scale top={top} unit={unit} />
              <th scope="col" role="columnheader" class="number wide">Per output token</th>
              <th scope="col" role="columnheader" class="number wide">Requests</th>
              <th scope="col" role="columnheader">Origin</th>
            </tr>
          </thead>
          <tbody role="rowgroup">
            {tenants.map((each) => (
              <tr role="row" key={`${each.tenant}\n${each.provenance}`}>
                <th scope="row" role="rowheader"><Tenant name={each.tenant} /></th>
                <td role="cell" class="number stacked">
                  <Figure of={energy(each.energy_joules, unit)} />
                  <Range low={each.low_joules} value={each.energy_joules} high={each.high_joules} unit={unit} />
                </td>
                <td role="cell" class="scale">
                  <Whisker
                    low={each.low_joules}
                    value={each.energy_joules}
                    high={each.high_joules}
                    top={top}
                    computed={isComputed(each.provenance)}
                  />
                </td>
                <td role="cell" class="number wide"><Figure of={energy(each.joules_per_output_token, unit)} /></td>
                <td role="cell" class="number wide">{count(each.requests)}</td>
                <td role="cell" class="origin"><Badge provenance={each.provenance} ratio={each.systematic_ratio} /></td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Panel>
  );
}
