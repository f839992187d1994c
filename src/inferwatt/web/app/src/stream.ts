/** The live figures: one EventSource, and the words for what became of it. */

import type { Pushed, RequestView, Window } from "./view";

export interface Link {
  state: "connecting" | "live" | "silent" | "lost";
  /** When the last figures came, by this reader's clock; null before the first. */
  sinceUnixSeconds: number | null;
}

/** The agent pushes once a second: an open connection on which this long nothing new came is opened anew. */
const SILENCE_SECONDS = 8;
const RETRY_SECONDS = 2;
/** How many of the last requests are kept; a new connection is told as many. */
const KEEP_REQUESTS = 100;

/** Follow `address` until the page goes; a browser ends an EventSource for good on an HTTP error, so it is reopened. */
export function follow(address: string, onView: (view: Pushed) => void, onLink: (link: Link) => void): void {
  let source: EventSource | null = null;
  let retry = 0;
  let silence = 0;
  let last: number | null = null;
  let newest = 0;
  let start = "";
  let ended = 0;
  let requests: RequestView[] = [];

  /** An id is the agent's start and how many requests had ended: a new connection tells some of them again. */
  function onRequest(event: MessageEvent<string>): void {
    const [from, number] = event.lastEventId.split("-");
    if (from !== start) {
      start = from ?? "";
      ended = 0;
      requests = [];
    }
    if (Number(number) <= ended) return;
    ended = Number(number);
    requests = [JSON.parse(event.data) as RequestView, ...requests].slice(0, KEEP_REQUESTS);
  }

  function onWindow(event: MessageEvent<string>): void {
    const view = JSON.parse(event.data) as Window;
    if (view.unix_seconds === newest) return; // what a new connection gets from an agent that has nothing new
    newest = view.unix_seconds;
    last = Date.now() / 1000;
    watch();
    onView({ ...view, requests });
    onLink({ state: "live", sinceUnixSeconds: last });
  }

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
    source.addEventListener("request", onRequest);
    source.addEventListener("window", onWindow);
  }

  onLink({ state: "connecting", sinceUnixSeconds: null });
  open();
}
