/** Where every joule went: the law of conservation as one bar for each provenance, never added to another. */

import type { JSX } from "preact";
import { type EnergyUnit, span } from "../format";
import { Badge, Panel, type Part, Split } from "../parts";
import { type AccountView, type LiveView, isComputed } from "../view";

function partsOf(account: AccountView): Part[] {
  return [
    { name: "prefill", joules: account.prefill_joules, colour: "prefill" },
    { name: "decode", joules: account.decode_joules, colour: "decode" },
    { name: "unlisted work", joules: account.unlisted_joules, colour: "unlisted" },
    { name: "idle", joules: account.idle_joules, colour: "idle" },
    { name: "other processes", joules: account.other_joules, colour: "other" },
    { name: "unattributed", joules: account.unattributed_joules, colour: "unattributed" },
  ];
}

export function Account({ view, unit }: { view: LiveView; unit: EnergyUnit }): JSX.Element {
  return (
    <Panel
      name="account"
      title="Where every joule went"
      note={`${span(view.unix_seconds - view.started_unix_seconds)} since the agent's start`}
    >
      {view.accounts.map((account) => (
        <div key={account.provenance} class="account">
          <Badge provenance={account.provenance} />
          <Split parts={partsOf(account)} unit={unit} computed={isComputed(account.provenance)} full />
        </div>
      ))}
    </Panel>
  );
}
