// One study: its three answers, the images behind the chosen one, and the reader's verdict on it.

import { answerPanel } from "./answers.js";
import { request, ServerError } from "./api.js";
import { ask } from "./asks.js";
import { busyNotice } from "./busy.js";
import { h, say, showView } from "./dom.js";
import { imageSection } from "./images.js";
import { bind } from "./keys.js";
import { isOpen, stateMark, stateOf } from "./states.js";
import { verdictSection } from "./verdicts.js";
import { neighbour, remember } from "./worklist.js";

const SOON_S = 1.5;

/** Show a study; `task` chooses an answer. */
export async function showStudy(session, id, task) {
  const path = `/radclear/study/${encodeURIComponent(id)}`;
  const address = location.hash;
  const go = (target) => { location.hash = target ? `#/study/${encodeURIComponent(target)}` : "#/"; };
  remember(id);
  bind("study", studyKeys(session, { stepStudy: step, leave: () => go("") })); // others would act on what is still shown
  let study;
  try {
    study = await request(path);
  } catch (error) {
    if (error.status !== 401 && location.hash === address) showTrouble(error, () => showStudy(session, id, task));
    return;
  }
  if (location.hash !== address) return; // the reader went on meanwhile
  const state = h("p", { class: "studystate" });
  const asking = h("button", { type: "button", onclick: () => ask(id) });
  const trouble = h("p", { class: "error", role: "alert" });
  const content = h("div", {});
  const subtitle = h("p", { class: "muted" });
  let parts = {};
  let timer = 0;
  let looks = 0;

  showView(study.name ?? study.id,
    h("nav", { class: "path", "aria-label": "Studies" },
      h("a", { href: "#/" }, "← Worklist"),
      h("button", { type: "button", class: "small", onclick: () => step(-1) }, "Previous study"),
      h("button", { type: "button", class: "small", onclick: () => step(1) }, "Next study")),
    h("div", { class: "studyhead" }, h("div", {}, h("h1", {}, study.name ?? study.id), subtitle), state, asking),
    busyNotice(), trouble, content);
  bindKeys();
  draw();
  await refreshStates();

  function step(by) {
    const target = neighbour(id, by);
    if (target) go(target);
    else say(by > 0 ? "This is the last study of the worklist." : "This is the first study of the worklist.");
  }

  function draw() {
    drawState();
    subtitle.textContent = study.subtitle ?? "";
    if (!study.tasks.length) {
      parts = {};
      return;
    }
    if (!study.tasks.some((entry) => entry.task === task)) task = study.tasks[0].task;
    const panels = session.tasks.map((question) => answerPanel(question,
      study.tasks.find((entry) => entry.task === question.task), study.verdicts, () => choose(question.task)));
    parts = { panels, chosen: h("div", {}), missing: h("div", { class: "banner note", role: "note" }) };
    drawMissing();
    content.replaceChildren(banners(study, parts.missing), h("section", { class: "answers", "aria-label": "Answers" }, panels),
      parts.chosen, provenance(study));
    drawChosen();
  }

  function drawChosen() {
    const entry = study.tasks.find((known) => known.task === task);
    parts.panels.forEach((panel, place) => panel.choose(session.tasks[place].task === task));
    parts.images = imageSection(study, entry, session);
    parts.verdict = verdictSection(session, study, entry, (verdict) => {
      study.verdicts = [...study.verdicts, verdict];
      drawState();
      parts.panels[session.tasks.findIndex((known) => known.task === task)].verdict(study.verdicts);
    });
    parts.chosen.replaceChildren(parts.images.element, parts.verdict.element);
  }

  function choose(name) {
    if (!study.tasks.some((entry) => entry.task === name)) return say("This question has no answer yet.");
    task = name;
    history.replaceState(null, "", `#/study/${encodeURIComponent(id)}/${name}`);
    drawChosen();
    parts.images.element.scrollIntoView({ block: "start" });
    say(`${study.tasks.find((entry) => entry.task === name).title}: images and verdict are shown.`);
  }

  function drawMissing() {
    const titles = session.tasks.filter((known) => study.missing.includes(known.task)).map((known) => known.title);
    const next = beingAsked() ? "It was asked for and comes by itself." : "Ask for answers to get it.";
    parts.missing.hidden = !titles.length;
    parts.missing.replaceChildren(h("strong", {}, "Not all questions are answered"),
      h("p", {}, `${titles.join(", ")}: there is no answer about these images yet. ${next}`));
  }

  function beingAsked() {
    return isOpen(study) || stateOf(study).state === "to be asked";
  }

  function drawState() {
    const open = beingAsked();
    state.replaceChildren(stateMark(stateOf(study)));
    asking.hidden = open;
    asking.textContent = study.tasks.length && !study.missing.length ? "Ask again" : "Ask for answers";
    asking.className = study.tasks.length ? "small" : "main";
    if (!study.tasks.length) {
      content.replaceChildren(h("p", { class: "card" }, "There are no answers to this study yet. ", open
        ? "It was asked about; they come by themselves."
        : "Ask for them: all three questions are answered in one go."));
    } else if (parts.missing) drawMissing();
  }

  async function refreshStates() {
    clearTimeout(timer);
    if (!content.isConnected) return;
    if (isOpen(study)) {
      const look = ++looks;
      try {
        const before = study.state;
        const found = await request(path);
        if (look !== looks) return; // a later look is on its way, or here
        study = found;
        trouble.textContent = "";
        if (!isOpen(study)) {
          say(study.state === "failed" ? `No answer: ${study.reason}` : "The answers are there.");
          draw();
        } else if (before !== study.state) drawState();
      } catch (error) {
        if (!(error instanceof ServerError)) throw error;
        if (look !== looks) return;
        trouble.textContent = error.message;
      }
      timer = setTimeout(refreshStates, 1000 * SOON_S);
    }
  }

  const update = (event) => {
    if (!content.isConnected) return ["asks", "asked"].forEach((name) => document.removeEventListener(name, update));
    if (event.type === "asked" && event.detail === id) {
      study.state = "waiting";
      study.reason = study.failed = "";
      say("Asked. The answers come by themselves.");
      refreshStates();
    }
    drawState();
  };
  document.addEventListener("asks", update);
  document.addEventListener("asked", update);

  function bindKeys() {
    const images = (action) => parts.images && action(parts.images);
    bind("study", studyKeys(session, {
      choose,
      step: (by) => images((i) => i.step(by)),
      stepKey: (by) => images((i) => i.stepKey(by)),
      nextWindow: () => images((i) => i.nextWindow()),
      openViewer: () => images((i) => i.openViewer()),
      verdict: (name) => parts.verdict?.pick(name),
      ask: () => !asking.hidden && ask(id),
      stepStudy: step,
      leave: () => go(""),
    }));
  }
}

/** The keys of a study, as `bind` takes them; those that `act` does not have are only named, for the help. */
export function studyKeys(session, act = {}) {
  return [
    ...session.tasks.map((question, place) => [`${place + 1}`, question.title.toLowerCase(), () => act.choose?.(question.task)]),
    [".", "next slice, towards the head", () => act.step?.(1)],
    ["ArrowUp", "next slice, towards the head", () => act.step?.(1)],
    [",", "previous slice, towards the feet", () => act.step?.(-1)],
    ["ArrowDown", "previous slice, towards the feet", () => act.step?.(-1)],
    ["]", "next key slice", () => act.stepKey?.(1)],
    ["[", "previous key slice", () => act.stepKey?.(-1)],
    ["w", "next window", () => act.nextWindow?.()],
    ["o", "open OHIF at this slice", () => act.openViewer?.()],
    ["a", "verdict: agree", () => act.verdict?.("agree")],
    ["d", "verdict: disagree", () => act.verdict?.("disagree")],
    ["c", "verdict: correct", () => act.verdict?.("correct")],
    ["q", "ask (again) for the answers", () => act.ask?.()],
    ["n", "next study", () => act.stepStudy?.(1)],
    ["p", "previous study", () => act.stepStudy?.(-1)],
    ["Escape", "back to the worklist", () => act.leave?.()],
  ];
}

function banners(study, missing) {
  const list = study.banners.map((banner) => h("div", { class: `banner ${banner.kind}`, role: "note" },
    h("strong", {}, banner.title), banner.messages.map((message) => h("p", {}, message))));
  list.push(missing);
  if (study.tasks.some((entry) => entry.outdated)) {
    list.push(h("div", { class: "banner note", role: "note" }, h("strong", {}, "Given by older weights"),
      h("p", {}, "The server has other weights now than those that gave an answer below. Ask again for the answer of the "
        + "present ones.")));
  }
  const notes = [...new Set(study.tasks.flatMap((entry) => entry.notes))];
  if (notes.length) {
    list.push(h("div", { class: "banner note", role: "note" }, h("strong", {}, "How it was computed"),
      notes.map((note) => h("p", {}, note))));
  }
  return h("div", { class: "banners" }, list);
}

function provenance(study) {
  return h("details", { class: "card" }, h("summary", {}, "Which weights answered, and when"),
    h("dl", { class: "facts" }, study.tasks.map((entry) => h("div", {}, h("dt", {}, entry.title),
      h("dd", {}, `${entry.model}, ${entry.made}. Weights ${entry.weights_sha256.slice(0, 12)}, `
        + `backbone ${entry.backbone_sha256.slice(0, 12)} (sha256).`)))));
}

function showTrouble(error, again) {
  showView("No study", h("nav", { class: "path", "aria-label": "Studies" }, h("a", { href: "#/" }, "← Worklist")),
    h("h1", {}, "The study cannot be shown"), h("p", { class: "error", role: "alert" }, error.message),
    error.status === 404 ? null : h("button", { type: "button", onclick: again }, "Try again"));
}
