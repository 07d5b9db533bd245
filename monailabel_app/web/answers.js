// One question's panel: the answer in a line, all classes with bars and numbers, and what the numbers mean.

import { h, s } from "./dom.js";
import { verdictWords } from "./states.js";

/** A panel; `answer` is missing where the question has none. It has `choose(on)` and `verdict(list)`. */
export function answerPanel(question, answer, verdicts, onChoose) {
  const id = `answer-${question.task}`;
  const button = h("button", { type: "button", "aria-pressed": "false", onclick: onChoose, hidden: !answer },
    "Images and verdict", h("span", { class: "hidden" }, `: ${question.title}`));
  const given = h("p", {});
  const panel = h("article", { class: "card answer", "aria-labelledby": id },
    h("h2", { id }, question.title), h("p", { class: "muted" }, question.question),
    answer ? [h("p", { class: "verdict" }, answer.text), classTable(question, answer), h("p", { class: "meaning" }, answer.meaning)]
      : h("p", {}, "No answer yet."),
    given, button);
  panel.choose = (on) => {
    button.setAttribute("aria-pressed", on ? "true" : "false");
    panel.classList.toggle("chosen", on);
  };
  panel.verdict = (list) => {
    const last = list.filter((entry) => entry.task === question.task).at(-1);
    given.hidden = !last;
    const agrees = last?.verdict === "agree";
    given.className = agrees ? "good" : "muted";
    given.textContent = last ? `${agrees ? "✓ " : ""}Last verdict: ${verdictWords(last.verdict)}${last.reader ? `, ${last.reader}` : ""}` : "";
  };
  panel.verdict(verdicts);
  return panel;
}

function classTable(question, answer) {
  return h("table", { class: "classes" },
    h("caption", { class: "hidden" }, `${question.title}: ${answer.score.toLowerCase()} of each class`),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, question.task === "staging" ? "Stage" : "Class"),
      h("th", { scope: "col", class: "number" }, answer.score),
      h("th", { scope: "col" }, h("span", { class: "hidden" }, "Bar from 0 to 1")),
      h("th", { scope: "col" }, "Operating point"))),
    h("tbody", {}, answer.classes.map((row) => h("tr", { class: row.strong ? "strong" : "" },
      h("th", { scope: "row" }, row.label), h("td", { class: "number" }, row.text),
      h("td", { class: "barcell" }, bar(row)), h("td", { class: "call" }, row.call)))));
}

function bar(row) {
  const point = row.operating_point;
  return s("svg", { class: "bar", viewBox: "0 0 200 20", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("rect", { class: "track", x: 0, y: 5, width: 200, height: 10 }),
    s("rect", { class: "fill", x: 0, y: 5, width: 200 * row.probability, height: 10 }),
    point === null ? null : s("line", { class: "point", x1: 200 * point, x2: 200 * point, y1: 0, y2: 20 }));
}
