/** Entry: follow the agent, keep the power of the last minutes, draw at most once a frame. */

import "uplot/dist/uPlot.min.css";
import "./style.css";
import { render } from "preact";
import { History } from "./history";
import { Page } from "./page";
import { type Link, follow } from "./stream";
import type { Pushed } from "./view";

const root = document.getElementById("page")!;
const history = new History();
let view: Pushed | null = null;
let link: Link = { state: "connecting", sinceUnixSeconds: null };
let asked = 0;

function redraw(): void {
  if (asked) return;
  asked = requestAnimationFrame(() => {
    asked = 0;
    render(<Page view={view} link={link} history={history} />, root);
  });
}

follow(
  "/v1/live",
  (next) => {
    view = next;
    history.add(next);
    redraw();
  },
  (next) => {
    link = next;
    redraw();
  },
);
