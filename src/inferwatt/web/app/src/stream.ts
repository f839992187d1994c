/** The live figures: one EventSource, and the words for what became of it. */

import type { Pushed } from "./view";

export interface Link {
  state: "connecting" | "live" | "silent" | "lost";
  /** When the last figures came, by this reader's clock; null before the first. */
  sinceUnixSeconds: number | null;
}

/** The agent pushes once a second: an open connection on which this long nothing new came is opened anew. */
const SILENCE_SECONDS = 8;
const RETRY_SECONDS = 2;

/** Follow `address` until the page goes; a browser ends an EventSource for good on an HTTP error, so it is reopened. */
export function follow(address: string, onView: (view: Pushed) => void, onLink: (link: Link) => void): void {
  let source: EventSource | null = null;
  let retry = 0;
  let silence = 0;
  let last: number | null = null;
  let newest = 0;

  function lost(): void {
    window.clearTimeout(silence);
    onLink({ state: "lost", sinceUnixSeconds: last });
    window.clearTimeout(retry);
    retry = window.setTimeout(() => {
      if (!source || source.readyState === EventSource.CLOSED) open();
    }, RETRY_SECONDS * 1000);
  }

  function watch(): void {
    window.clearTimeout(silence);
    silence = window.setTimeout(() => {
      onLink({ state: "silent", sinceUnixSeconds: last });
      open();
    }, SILENCE_SECONDS * 1000);
  }

  function open(): void {
    watch();
    source?.close();
    source = new EventSource(address);
    source.onerror = lost;
    source.onopen = watch; // a browser also connects anew by itself
    source.onmessage = (event: MessageEvent<string>) => {
      const view = JSON.parse(event.data) as Pushed;
      if (view.unix_seconds === newest) return; // what a new connection gets from an agent that has nothing new
      newest = view.unix_seconds;
      last = Date.now() / 1000;
      watch();
      onView(view);
      onLink({ state: "live", sinceUnixSeconds: last });
    };
  }

  onLink({ state: "connecting", sinceUnixSeconds: null });
  open();
}
