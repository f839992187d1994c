/** Where every joule went: the law of conservation as one bar. */

import type { JSX } from "preact";
import { type EnergyUnit, span } from "../format";
import { Badge, Panel, type Part, Split } from "../parts";
import { type LiveView, type ModelView, PROVENANCES, isComputed } from "../view";

function sum(models: ModelView[], of: (model: ModelView) => number): number {
  return models.reduce((total, each) => total + of(each), 0);
}

function accountsOf(view: LiveView): Part[] {
  return [
    { name: "prefill", joules: sum(view.models, (each) => each.prefill_joules), colour: "prefill" },
    { name: "decode", joules: sum(view.models, (each) => each.decode_joules), colour: "decode" },
    { name: "unlisted work", joules: sum(view.models, (each) => each.unlisted_joules), colour: "unlisted" },
    { name: "idle", joules: view.idle_joules, colour: "idle" },
    { name: "other processes", joules: view.other_joules, colour: "other" },
    { name: "unattributed", joules: view.unattributed_joules, colour: "unattributed" },
  ];
}

export function Account({ view, unit }: { view: LiveView; unit: EnergyUnit }): JSX.Element {
  const there = PROVENANCES.filter((each) => view.devices.some((device) => device.provenance === each));
  return (
    <Panel
      name="account"
      title="Where every joule went"
      note={`${span(view.unix_seconds - view.started_unix_seconds)} since the agent's start`}
      tools={there.map((each) => <Badge key={each} provenance={each} />)}
    >
      <Split parts={accountsOf(view)} unit={unit} computed={there.length > 0 && there.every(isComputed)} full />
    </Panel>
  );
}
