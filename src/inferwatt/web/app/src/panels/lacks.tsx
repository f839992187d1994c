/** What is not there, each with the one command that would help. */

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { Panel } from "../parts";
import type { Lack } from "../view";

export function Lacks({ lacks }: { lacks: Lack[] }): JSX.Element {
  return (
    <Panel name="lacks" title="What is lacking">
      {lacks.length === 0 ? (
        <p class="empty">Nothing: all that this machine has is metered.</p>
      ) : (
        <ul>
          {lacks.map((each) => (
            <li key={`${each.what}\n${each.where}`}>
              <p>
                {each.what} {each.where && <span class="where">{each.where}</span>}
              </p>
              {each.fix && <Command text={each.fix} />}
            </li>
          ))}
        </ul>
      )}
    </Panel>
  );
}

/** One command, to be copied where the browser lets us. */
export function Command({ text }: { text: string }): JSX.Element {
  const [copied, setCopied] = useState(false);
  const copy = (): void => {
    navigator.clipboard.writeText(text).then(
      () => {
        setCopied(true);
        window.setTimeout(() => setCopied(false), 2000);
      },
      () => setCopied(false),
    );
  };
  return (
    <div class="command">
      <code>{text}</code>
      {window.isSecureContext && (
        <button type="button" class="plain" onClick={copy} aria-label={`Copy: ${text}`}>
          {copied ? "Copied" : "Copy"}
        </button>
      )}
    </div>
  );
}
