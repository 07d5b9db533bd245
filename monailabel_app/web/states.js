// How far a study is, in words and with a sign that does not depend on colour.

import { local } from "./asks.js";
import { h } from "./dom.js";

const SIGNS = {
  "not asked": "○", "to be asked": "◌", waiting: "◔", running: "◑", answered: "●", failed: "✕", "verdict given": "✓",
};

/** The state of a study of the worklist, with what only this page knows. */
export function stateOf(study) {
  const here = local(study.id);
  if (here.failure) return { state: "failed", reason: here.failure, failed: "" };
  if (here.place) return { state: "to be asked", reason: "" };
  if (study.state === "answered" && study.verdicts.length) return { state: "verdict given", reason: study.reason };
  return { state: study.state, reason: study.reason, failed: study.failed };
}

/** Whether the server is still to answer. */
export function isOpen(study) {
  return study.state === "waiting" || study.state === "running";
}

/** A state as it is shown. */
export function stateMark({ state, reason, failed }) {
  return h("span", { class: "state", "data-state": state },
    h("span", { class: "sign", "aria-hidden": "true" }, SIGNS[state] ?? ""), h("span", {}, state),
    reason ? h("span", { class: "reason" }, reason) : null,
    failed ? h("span", { class: "when" }, failed) : null);
}
