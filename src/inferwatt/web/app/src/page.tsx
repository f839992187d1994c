/** The page: masthead, state of the connection, panels. */

import type { JSX } from "preact";
import { type EnergyUnit, clock, span } from "./format";
import type { History } from "./history";
import { Account } from "./panels/account";
import { Command, Lacks } from "./panels/lacks";
import { Models } from "./panels/models";
import { Power } from "./panels/power";
import { Requests } from "./panels/requests";
import { Tenants } from "./panels/tenants";
import { Choice, Panel } from "./parts";
import { THEMES, type Theme, useChoice, useTheme } from "./settings";
import type { Link } from "./stream";
import type { Pushed } from "./view";

const UNITS = ["J", "Wh"] as const;

interface Props {
  view: Pushed | null;
  link: Link;
  history: History;
}

export function Page({ view, link, history }: Props): JSX.Element {
  const [unit, setUnit] = useChoice("unit", UNITS, "J");
  const [theme, setTheme] = useChoice("theme", THEMES, "auto");
  const dark = useTheme(theme);
  return (
    <>
      <Masthead view={view} unit={unit} setUnit={setUnit} theme={theme} setTheme={setTheme} link={link} />
      <State link={link} />
      <main class={link.state === "lost" || link.state === "silent" ? "outdated" : ""}>
        {view === null ? <p class="empty first">Waiting for the first figures.</p> : (
          <Panels view={view} history={history} unit={unit} dark={dark} />
        )}
      </main>
    </>
  );
}

function Panels({ view, history, unit, dark }: {
  view: Pushed;
  history: History;
  unit: EnergyUnit;
  dark: boolean;
}): JSX.Element {
  return (
    <>
      <Power view={view} history={history} unit={unit} dark={dark} />
      <Models models={view.models} unit={unit} />
      <Account view={view} unit={unit} />
      {view.restricted ? <Restricted /> : <Tenants tenants={view.tenants} unit={unit} />}
      <Lacks lacks={view.lacks} />
      {!view.restricted && (
        <Requests requests={view.requests} nowUnixSeconds={view.unix_seconds} unit={unit} />
      )}
    </>
  );
}

function Restricted(): JSX.Element {
  return (
    <Panel name="tenants" title="Tenants and requests">
      <p class="empty">They are shown to holders of the agent's token. On its machine, in a terminal:</p>
      <Command text="inferwatt requests" />
    </Panel>
  );
}

interface MastheadProps {
  view: Pushed | null;
  unit: EnergyUnit;
  setUnit: (unit: EnergyUnit) => void;
  theme: Theme;
  setTheme: (theme: Theme) => void;
  link: Link;
}

function Masthead({ view, unit, setUnit, theme, setTheme, link }: MastheadProps): JSX.Element {
  return (
    <header class="masthead">
      <h1>
        <Mark />
        inferwatt
      </h1>
      <p class="about">
        {view && <span class="host">{view.host}</span>}
        {view && <span>up {span(view.unix_seconds - view.started_unix_seconds)}</span>}
        {view && <span>{view.version}</span>}
      </p>
      <p class={`light ${link.state}`} aria-hidden="true">
        <i key={view?.unix_seconds} />
        {link.state}
      </p>
      <Choice label="Unit of energy" values={UNITS} value={unit} onChange={setUnit} />
      <Choice label="Theme" values={THEMES} value={theme} onChange={setTheme} />
    </header>
  );
}

/** A dial: the mark of the page. */
function Mark(): JSX.Element {
  return (
    <svg class="mark" viewBox="0 0 28 20" width="28" height="20" fill="none" aria-hidden="true">
      <path class="dial" d="M3 17a11 11 0 0 1 22 0" />
      <path class="reach" d="M3 17a11 11 0 0 1 13.8-10.6" />
      <path class="needle" d="M14 17l4.2-7.2" />
    </svg>
  );
}

/** Spoken politely, and only when the connection changes: a figure a second is not news. */
function State({ link }: { link: Link }): JSX.Element {
  const cut = link.state === "lost" || link.state === "silent";
  const what = link.state === "lost" ? "Disconnected" : "Connected, but without new figures";
  return (
    <div class="state" role="status" aria-live="polite">
      {cut && (
        <p>
          {link.sinceUnixSeconds === null
            ? "The agent does not answer."
            : `${what} since ${clock(link.sinceUnixSeconds)}. These are the last figures that came.`}{" "}
          Trying again.
        </p>
      )}
    </div>
  );
}
