// The reader's verdict on an answer: agree, disagree or correct; and the verdicts that were given before.

import { request } from "./api.js";
import { h, say } from "./dom.js";
import { verdictWords } from "./states.js";

const READER = "radclear-reader"; // in this tab only
const drafts = new Map(); // study and question → a comment that is not stored yet
const CHOICES = [["agree", "Agree", "the answer is right"], ["disagree", "Disagree", "it is wrong"],
  ["correct", "Correct", "it is wrong, and I say what is right"]];

/** The section; `onStored(verdict)` is called with what the server stored. It has `pick(verdict)`. */
export function verdictSection(session, study, answer, onStored) {
  const question = session.tasks.find((known) => known.task === answer.task);
  const many = question.kind === "multilabel";
  const title = `verdict-${answer.task}`;
  const error = h("p", { class: "error", role: "alert" });
  const stored = h("p", { class: "stored" });
  const radios = CHOICES.map(([name, label, words]) => h("label", { class: "choice" },
    h("input", { type: "radio", name: "verdict", value: name, onchange: change }), h("strong", {}, label), ` – ${words}`));
  const classes = h("fieldset", { class: "classlist", hidden: true },
    h("legend", {}, many ? "What is right? Choose all that are true; none chosen means: none of them" : "Which one is right?"),
    question.classes.map(({ name, label }) => h("label", { class: "choice" },
      h("input", { type: many ? "checkbox" : "radio", name: "class", value: name }), label)));
  const draft = `${study.id} ${answer.task}`;
  const comment = h("textarea", { id: "comment", rows: 2, maxlength: 2000,
    oninput: () => drafts.set(draft, comment.value) }, drafts.get(draft) ?? "");
  let sending = false;
  const reader = h("input", { id: "reader-name", autocomplete: "name", maxlength: 64, required: true,
    value: sessionStorage.getItem(READER) ?? "" });
  const send = h("button", { class: "main" }, "Store the verdict");
  const form = h("form", { novalidate: "", onsubmit: submit },
    h("fieldset", { class: "choices" }, h("legend", {}, `Is “${answer.text}” right?`),
      many ? h("p", { class: "muted" }, `Agreeing says: ${labels(called())}.`) : null, radios), classes,
    h("label", { for: "comment" }, "Comment (may be empty; no names of patients)"), comment,
    session.authentication ? h("p", { class: "muted" }, `Stored under your name: ${session.reader}.`)
      : [h("label", { for: "reader-name" }, "Your name"), reader],
    error, h("p", { class: "buttons" }, send, stored));
  const earlier = h("div", { class: "earlier" });
  const element = h("section", { class: "card verdicts", "aria-labelledby": title },
    h("h2", { id: title }, `Your verdict: ${answer.title.toLowerCase()}`),
    h("div", { class: "verdictgrid" }, form, earlier));
  list();
  return { element, pick };

  /** What the answer calls, as the server takes it for "agree". */
  function called() {
    return answer.classes.filter((row) => row.probability >= (row.operating_point ?? 0.5)).map((row) => row.name);
  }

  function chosen() {
    return form.querySelector("[name=verdict]:checked");
  }

  function change() {
    classes.hidden = chosen().value !== "correct";
    error.textContent = stored.textContent = "";
  }

  function pick(name) {
    const radio = form.querySelector(`[name=verdict][value=${name}]`);
    radio.checked = true;
    change();
    const next = name === "correct" ? classes.querySelector("input") : radio;
    next.focus();
    element.scrollIntoView({ block: "nearest" });
    say(`Verdict: ${name}. It is not stored yet.`);
  }

  function problem(text, where) {
    error.textContent = text;
    where.focus();
  }

  async function submit(event) {
    event.preventDefault();
    if (sending) return;
    const radio = chosen();
    if (!radio) return problem("Choose agree, disagree or correct.", radios[0].querySelector("input"));
    const names = [...classes.querySelectorAll("input:checked")].map((input) => input.value);
    if (radio.value === "correct" && !many && !names.length) {
      return problem("Choose the class that is right.", classes.querySelector("input"));
    }
    if (!session.authentication && !reader.value.trim()) return problem("Enter your name.", reader);
    const verdict = { image: study.id, task: answer.task, verdict: radio.value,
      weights_sha256: answer.weights_sha256, backbone_sha256: answer.backbone_sha256, series_hash: study.series_hash };
    if (radio.value === "correct") verdict.classes = names;
    if (comment.value.trim()) verdict.comment = comment.value.trim();
    if (!session.authentication) {
      verdict.reader = reader.value.trim();
      sessionStorage.setItem(READER, verdict.reader);
    }
    sending = true;
    error.textContent = "";
    try {
      const kept = await request("/radclear/verdicts", { method: "POST", body: verdict });
      stored.textContent = `✓ Stored ${time(kept.stored)}`;
      say(`The verdict on ${answer.title.toLowerCase()} is stored.`);
      drafts.delete(draft);
      comment.defaultValue = "";
      form.reset();
      reader.value = sessionStorage.getItem(READER) ?? "";
      classes.hidden = true;
      onStored({ ...verdict, reader: verdict.reader ?? session.reader, ...kept });
      list();
    } catch (failure) {
      problem(`The verdict is not stored. ${failure.message}`, send);
    } finally {
      sending = false;
    }
  }

  async function list() {
    const query = new URLSearchParams({ image: study.id, task: answer.task });
    let known = [];
    try {
      known = (await request(`/radclear/verdicts?${query}`)).verdicts;
    } catch (failure) {
      earlier.replaceChildren(h("h3", {}, "Earlier verdicts"),
        h("p", { class: "error" }, `They cannot be shown. ${failure.message}`));
      return;
    }
    const newest = new Map(known.map((entry) => [entry.reader, entry.id]));
    earlier.replaceChildren(h("h3", {}, "Earlier verdicts"), known.length
      ? h("ol", {}, known.toReversed().map((entry) => h("li", {},
        h("p", {}, h("strong", {}, verdictWords(entry.verdict)), entry.verdict === "correct" ? `: ${labels(entry.classes)}` : "",
          newest.get(entry.reader) === entry.id ? null : h("span", { class: "tag" }, "replaced by a later one")),
        h("p", { class: "muted" }, `${entry.reader}, ${time(entry.stored)}`,
          entry.weights_sha256 === answer.weights_sha256 ? "" : ", on the answer of other weights"),
        entry.comment ? h("p", { class: "comment" }, entry.comment) : null)))
      : h("p", { class: "muted" }, "None yet."));
  }

  function labels(names) {
    if (!names?.length) return "none of the classes";
    return names.map((name) => question.classes.find((known) => known.name === name)?.label ?? name).join(", ");
  }
}

function time(iso) {
  return new Date(iso).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}
