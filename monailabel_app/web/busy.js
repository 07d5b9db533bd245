// The notice that the server's line is full: its own words, when it is tried again, and two ways out.

import { stop, tryNow, waiting } from "./asks.js";
import { h } from "./dom.js";

/** A notice that keeps itself up to date while it is in the page. */
export function busyNotice() {
  const text = h("p", {});
  const count = h("p", { class: "muted" });
  const notice = h("div", { class: "banner note", role: "group", "aria-label": "The server is busy", hidden: true },
    h("strong", {}, "Not asked yet"), text, count,
    h("p", { class: "buttons" },
      h("button", { type: "button", onclick: tryNow }, "Try now"),
      h("button", { type: "button", onclick: stop }, "Stop asking")));
  const update = () => {
    const now = waiting();
    notice.hidden = !now || !now.text;
    if (notice.hidden) return;
    text.textContent = now.text;
    count.textContent = `Trying again in ${now.left} s. In line on this page: ${now.studies}.`;
  };
  const timer = setInterval(() => (notice.isConnected ? update() : clearInterval(timer)), 500);
  update();
  return notice;
}
