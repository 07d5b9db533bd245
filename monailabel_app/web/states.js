// How far a study is, in words and with a sign that does not depend on colour.

import { local } from "./asks.js";
import { h } from "./dom.js";

const SIGNS = {
  "not asked": "○", "to be asked": "◌", waiting: "◔", running: "◑", "partly answered": "◕", answered: "●",
  "partly judged": "●", judged: "✓", failed: "✕",
};

/** The state of a study of the worklist, with what only this page knows: `kind` is one of the signs', `state` its words. */
export function stateOf(study) {
  const here = local(study.id);
  if (here.failure) return { kind: "failed", state: "failed", reason: here.failure, failed: "" };
  if (here.place) return { kind: "to be asked", state: "to be asked", reason: "" };
  const { state, reason, failed, answers, unanswered } = study;
  if (state !== "answered") return { kind: state, state, reason, failed };
  const judged = answers.filter((answer) => study.verdicts.some((verdict) => verdict.task === answer.task)).length;
  if (judged) {
    const words = `${judged} of ${answers.length} verdict${answers.length === 1 ? "" : "s"}`;
    return { kind: judged < answers.length ? "partly judged" : "judged", state: words, reason };
  }
  if (unanswered.length) {
    return { kind: "partly answered", state: `${answers.length} of ${answers.length + unanswered.length} answered`, reason };
  }
  return { kind: state, state, reason };
}

/** Whether the server is still to answer. */
export function isOpen(study) {
  return study.state === "waiting" || study.state === "running";
}

/** Whether asking would bring an answer that is not there, and nobody has asked yet. */
export function lacksAnswers(study) {
  const { kind } = stateOf(study);
  return kind === "failed" || (study.unanswered.length > 0 && !["to be asked", "waiting", "running"].includes(kind));
}

/** A state as it is shown. */
export function stateMark({ kind, state, reason, failed }) {
  return h("span", { class: "state", "data-state": kind },
    h("span", { class: "badge" }, h("span", { class: "sign", "aria-hidden": "true" }, SIGNS[kind]), h("span", {}, state)),
    reason ? h("span", { class: "reason" }, reason) : null,
    failed ? h("span", { class: "when" }, failed) : null);
}

/** A verdict beside the answer it is about, where `correct` would read as if the answer were right. */
export function verdictWords(verdict) {
  return verdict === "correct" ? "corrected" : verdict;
}
