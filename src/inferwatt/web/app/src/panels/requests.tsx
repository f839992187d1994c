/** The last requests; they can be held still to be read while the figures go on. */

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { type EnergyUnit, age, count, energy, span } from "../format";
import { Badge, Figure, Panel, Range, Unknown } from "../parts";
import type { RequestView } from "../view";
import { Tenant } from "./tenants";

const TIERS = new Map([
  ["step_exact", "the members of each engine step are known"],
  ["step_reconstructed", "steps rebuilt from first and last token times"],
  ["request_span", "only start and end are known"],
  ["token_share", "only sums of tokens are known"],
]);

interface Props {
  requests: RequestView[];
  nowUnixSeconds: number;
  unit: EnergyUnit;
}

export function Requests({ requests, nowUnixSeconds, unit }: Props): JSX.Element {
  const [held, hold] = useState<RequestView[] | null>(null);
  const shown = held ?? requests;
  return (
    <Panel
      name="requests"
      title="Last requests"
      note="bounds: 90% of the split; ± is the sensor's, apart"
      tools={
        <button type="button" class="plain" aria-pressed={held !== null} onClick={() => hold(held ? null : requests)}>
          {held ? "Go on" : "Hold"}
        </button>
      }
    >
      {shown.length === 0 ? (
        <p class="empty">No request has ended yet.</p>
      ) : (
        <table role="table" class="cards">
          <caption class="unseen">Last requests, newest first</caption>
          <thead role="rowgroup">
            <tr role="row">
              <th scope="col" role="columnheader" class="number">Age</th>
              <th scope="col" role="columnheader">Model</th>
              <th scope="col" role="columnheader">Tenant</th>
              <th scope="col" role="columnheader" class="number">Prompt</th>
              <th scope="col" role="columnheader" class="number">Output</th>
              <th scope="col" role="columnheader" class="number">Took</th>
              <th scope="col" role="columnheader" class="number">Energy</th>
              <th scope="col" role="columnheader">Origin</th>
              <th scope="col" role="columnheader">Tier</th>
              <th scope="col" role="columnheader">Outcome</th>
            </tr>
          </thead>
          <tbody role="rowgroup">
            {shown.map((each) => (
              <Row key={each.request} request={each} nowUnixSeconds={nowUnixSeconds} unit={unit} />
            ))}
          </tbody>
        </table>
      )}
    </Panel>
  );
}

function Row({ request, nowUnixSeconds, unit }: { request: RequestView } & Omit<Props, "requests">): JSX.Element {
  const tags = Object.entries(request.tags).map(([key, value]) => `${key}=${value}`);
  return (
    <tr role="row" title={request.response_id || request.request}>
      <td role="cell" class="number age">{age(nowUnixSeconds - request.end_unix_seconds)}</td>
      <th scope="row" role="rowheader" class="who">
        <span class="name">{request.model_name || <Unknown />}</span>
        <small>{request.server}</small>
      </th>
      <td role="cell" class="tenant" data-label="Tenant">
        <Tenant name={request.tenant} />
        {tags.length > 0 && <small>{tags.join(" ")}</small>}
      </td>
      <td role="cell" class="number" data-label="Prompt">
        {request.prompt_tokens === null ? <Unknown /> : count(request.prompt_tokens)}
        {!!request.cached_tokens && <small>{count(request.cached_tokens)} cached</small>}
      </td>
      <td role="cell" class="number" data-label="Output">
        {request.output_tokens === null ? <Unknown /> : count(request.output_tokens)}
      </td>
      <td role="cell" class="number" data-label="Took">{span(request.duration_seconds)}</td>
      <td role="cell" class="number hero">
        <Figure of={energy(request.energy_joules, unit)} />
        <Range low={request.low_joules} value={request.energy_joules} high={request.high_joules} unit={unit} />
      </td>
      <td role="cell" class="origin"><Badge provenance={request.provenance} ratio={request.systematic_ratio} /></td>
      <td role="cell" class="tier" data-label="Tier" title={TIERS.get(request.tier) ?? ""}>{request.tier.replaceAll("_", " ")}</td>
      <td role="cell" class={`outcome ${request.outcome === "finished" ? "" : "unfinished"}`}>{request.outcome}</td>
    </tr>
  );
}
