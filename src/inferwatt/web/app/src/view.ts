/** What the agent pushes: the LiveView of snapshot.py, field by field (tests/web/test_page.py compares the two). */

export type Provenance = "measured" | "sampled" | "reported" | "modelled" | "estimated" | "simulated";

export interface DeviceView {
  device: string;
  domain: string;
  component: string;
  provenance: Provenance;
  systematic_ratio: number;
  power_watts: number | null;
  energy_joules: number;
  stale: boolean;
}

export interface ModelView {
  model_name: string;
  server: string;
  provenance: Provenance;
  window_seconds: number;
  power_watts: number | null;
  output_tokens_per_second: number;
  joules_per_output_token: number | null;
  low_joules_per_output_token: number | null;
  high_joules_per_output_token: number | null;
  energy_joules: number;
  prefill_joules: number;
  decode_joules: number;
  idle_joules: number;
  unlisted_joules: number;
  systematic_ratio: number;
  prompt_tokens: number;
  cached_tokens: number;
  output_tokens: number;
  requests: number;
  open_requests: number;
}

export interface TenantView {
  tenant: string;
  provenance: Provenance;
  energy_joules: number;
  low_joules: number;
  high_joules: number;
  systematic_ratio: number;
  requests: number;
  output_tokens: number;
  joules_per_output_token: number | null;
}

export interface RequestView {
  request: string;
  response_id: string;
  model_name: string;
  server: string;
  tenant: string;
  end_unix_seconds: number;
  duration_seconds: number;
  prompt_tokens: number | null;
  cached_tokens: number | null;
  output_tokens: number | null;
  energy_joules: number | null;
  prefill_joules: number | null;
  decode_joules: number | null;
  low_joules: number | null;
  high_joules: number | null;
  systematic_ratio: number | null;
  tier: string;
  provenance: Provenance | "";
  outcome: string;
  tags: Record<string, string>;
  trace_id: string;
  details: Record<string, number>;
  unsure: boolean;
  recomputed_tokens: number | null;
  rejected_tokens: number | null;
  wasted_tokens: number | null;
  ending: string;
  thrown_away_tokens: Record<string, number>;
  queue_seconds: number | null;
  namespace: string;
  pod: string;
  container: string;
}

export interface Lack {
  what: string;
  where: string;
  fix: string;
  source: string;
  component: string;
}

export interface AccountView {
  provenance: Provenance;
  prefill_joules: number;
  decode_joules: number;
  unlisted_joules: number;
  idle_joules: number;
  other_joules: number;
  unattributed_joules: number;
}

export interface EngineView {
  server: string;
  kind: string;
  version: string;
  tier: string;
}

export interface LiveView {
  unix_seconds: number;
  started_unix_seconds: number;
  version: string;
  host: string;
  devices: DeviceView[];
  models: ModelView[];
  tenants: TenantView[];
  requests: RequestView[];
  lacks: Lack[];
  accounts: AccountView[];
  requests_ended: number;
  engines: EngineView[];
}

/** The event `window`. `restricted`: tenants and requests were left out for a reader without a token. */
export type Window = Omit<LiveView, "requests"> & { restricted: boolean };

/** A window with the requests of the events before it, newest first. */
export type Pushed = Window & { requests: RequestView[] };

/** Best first, as in records.py. */
export const PROVENANCES: readonly Provenance[] = [
  "measured",
  "sampled",
  "reported",
  "modelled",
  "estimated",
  "simulated",
];

/** What each word means, for whoever meets it here first. */
export const MEANING: Record<Provenance, string> = {
  measured: "read from an energy counter",
  sampled: "power, integrated over time",
  reported: "as another exporter says",
  modelled: "from utilisation, by a published curve",
  estimated: "from a published coefficient",
  simulated: "from a simulation: no real joule",
};

/** Nothing was metered: the figure comes from a formula. Drawn hatched everywhere. */
export function isComputed(provenance: string): boolean {
  return provenance === "modelled" || provenance === "estimated" || provenance === "simulated";
}
