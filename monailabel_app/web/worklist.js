// The worklist: all studies, how far they are, and their answers in short.

import { request } from "./api.js";
import { ask } from "./asks.js";
import { busyNotice } from "./busy.js";
import { h, say, showView } from "./dom.js";
import { bind } from "./keys.js";
import { isOpen, lacksAnswers, stateMark, stateOf, verdictWords } from "./states.js";

const SOON_S = 2;
const LATER_S = 30;

let studies = null; // until the server has said what it has
let shown = []; // ids in the order of the page
let filter = "";
let sort = { column: "id", down: false };
let last = ""; // the study that was looked at
let timer = 0;
let looks = 0;
let drawn = "";

/** The study before (-1) or after (1) another one in the order of the worklist. */
export function neighbour(id, step) {
  return shown[shown.indexOf(id) + step] ?? "";
}

/** Show the worklist, and keep it up to date. */
export function showWorklist(session) {
  const body = h("tbody");
  const count = h("p", { class: "muted", role: "status" });
  const trouble = h("p", { class: "error", role: "alert" });
  const notFound = h("p", { class: "error", role: "alert" }); // not trouble: the next look at the worklist ends that
  const askAll = h("button", { type: "button", onclick: askForAll });
  const box = h("input", { id: "filter", type: "search", value: filter, spellcheck: "false", autocomplete: "off",
    "aria-describedby": "filter-help", oninput: () => { filter = box.value; notFound.textContent = ""; draw(true); } });
  const columns = [["id", "Study"], ["state", "Status"], ...session.tasks.map((task) => [task.task, task.title])];
  const heads = columns.map(([name, title]) => h("th", { scope: "col", role: "columnheader", "data-column": name },
    h("button", { type: "button", class: "sort", onclick: () => sortBy(name) }, title,
      h("span", { class: "arrow", "aria-hidden": "true" }))));

  showView("Worklist", h("h1", {}, "Worklist"), busyNotice(), trouble,
    h("form", { class: "tools", role: "search", onsubmit: find },
      h("label", { for: "filter" }, "Filter"), box,
      h("button", {}, "Find by name"), askAll,
      h("p", { id: "filter-help", class: "muted" }, session.identifiers
        ? "Filters by name, status and answer."
        : "Filters by id, status and answer. Names are not shown here; to find a study by its name or series UID, enter "
          + "it in full and press Enter.")),
    notFound,
    count,
    h("table", { class: "worklist", role: "table" },
      h("caption", { class: "hidden" }, "Studies with status and answers"),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads)), body));
  body.setAttribute("role", "rowgroup");
  bind("worklist", [
    ["/", "filter", () => box.focus()],
    ["j", "next study", () => move(1)], ["ArrowDown", "next study", () => move(1)],
    ["k", "previous study", () => move(-1)], ["ArrowUp", "previous study", () => move(-1)],
    ["q", "ask for the answers to the chosen study", () => current() && ask(current())],
    ["Escape", "clear the filter", () => { filter = box.value = notFound.textContent = ""; draw(true); box.blur(); focusOn(last); }],
  ]);
  drawn = "";
  draw(false);
  refresh();
  if (last) focusOn(last);

  async function refresh() {
    clearTimeout(timer);
    if (!body.isConnected) return;
    const look = ++looks;
    try {
      if (!document.hidden) {
        const found = await request("/radclear/worklist");
        if (look !== looks) return; // a later look is on its way, or here
        const first = studies === null;
        studies = found.studies;
        trouble.textContent = "";
        draw(false);
        if (first && last && document.activeElement !== box) focusOn(last);
      }
    } catch (error) {
      if (error.status === 401 || look !== looks) return;
      trouble.textContent = `The worklist is not up to date. ${error.message}`;
    }
    clearTimeout(timer);
    timer = setTimeout(refresh, 1000 * (studies?.some(isOpen) || trouble.textContent ? SOON_S : LATER_S));
  }

  const update = (event) => {
    if (!body.isConnected) return ["asks", "asked"].forEach((name) => document.removeEventListener(name, update));
    return event.type === "asked" ? refresh() : draw(false);
  };
  document.addEventListener("asks", update);
  document.addEventListener("asked", update);

  function draw(announce) {
    const rows = arranged(session);
    const text = JSON.stringify([studies?.length, rows, rows.map((row) => stateOf(row)), sort]);
    if (text === drawn) return;
    drawn = text;
    shown = rows.map((row) => row.id);
    const focused = current();
    body.replaceChildren(...rows.map((row) => line(row, session)));
    if (focused) focusOn(focused);
    count.textContent = counted(rows.length);
    if (announce) say("");
    const open = rows.filter(lacksAnswers).length;
    askAll.textContent = `Ask for all shown (${open})`;
    askAll.disabled = open === 0;
    for (const head of heads) {
      const mine = head.dataset.column === sort.column;
      head.setAttribute("aria-sort", mine ? (sort.down ? "descending" : "ascending") : "none");
      head.querySelector(".arrow").textContent = mine ? (sort.down ? "▼" : "▲") : "";
    }
  }

  function sortBy(column) {
    sort = { column, down: sort.column === column && !sort.down };
    draw(false);
    say(`Sorted by ${columns.find(([name]) => name === column)[1]}, ${sort.down ? "descending" : "ascending"}.`);
  }

  function askForAll() {
    const wanted = arranged(session).filter(lacksAnswers);
    wanted.forEach((row) => ask(row.id));
    say(wanted.length === 1 ? "One study is asked about." : `${wanted.length} studies are asked about, one after another.`);
  }

  async function find(event) {
    event.preventDefault();
    const rows = arranged(session);
    if (rows.length === 1) return open(rows[0].id);
    if (!filter) return box.focus();
    notFound.textContent = "";
    try {
      open((await request("/radclear/find", { method: "POST", body: { image: filter } })).id);
    } catch (error) {
      notFound.textContent = error.status === 404 ? "No study has this id, name or UID." : error.message;
      box.focus();
    }
  }

  function current() {
    return document.activeElement?.closest?.("tr[data-id]")?.dataset.id ?? "";
  }

  function move(step) {
    const at = shown.indexOf(current());
    focusOn(shown[at < 0 ? (step > 0 ? 0 : shown.length - 1) : Math.min(Math.max(at + step, 0), shown.length - 1)]);
  }

  function focusOn(id) {
    [...body.children].find((row) => row.dataset.id === id)?.querySelector("a").focus();
  }
}

/** Remember which study was looked at, to come back to it. */
export function remember(id) {
  last = id;
}

function open(id) {
  location.hash = `#/study/${encodeURIComponent(id)}`;
}

function counted(found) {
  if (!studies) return "The studies are being listed …";
  if (!studies.length) return "The server has no studies. Those that come into its folder or archive appear here.";
  return `${found} of ${studies.length} studies`;
}

function arranged(session) {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = (studies ?? []).filter((study) => {
    const now = stateOf(study);
    const judged = now.kind.endsWith("judged") ? "answered" : ""; // which the words of its state leave out
    const text = [study.id, study.name, judged, ...Object.values(now), ...study.answers.map((a) => a.text)];
    return words.every((word) => text.join(" ").toLowerCase().includes(word));
  });
  const value = (study) => {
    if (sort.column === "id") return study.name ?? study.id;
    if (sort.column === "state") return stateOf(study).state;
    return study.answers.find((answer) => answer.task === sort.column)?.text ?? "\uffff";
  };
  const numeric = sort.column !== "id" || session.identifiers; // an id is a hash: its digits are no number
  rows.sort((a, b) => value(a).localeCompare(value(b), "en", { numeric }) * (sort.down ? -1 : 1));
  return rows;
}

function verdictTag(verdict) {
  return verdict === "agree" ? h("span", { class: "tag good" }, "✓ agree") : h("span", { class: "tag" }, verdictWords(verdict));
}

function line(study, session) {
  const now = stateOf(study);
  const address = `#/study/${encodeURIComponent(study.id)}`;
  const name = study.name ?? study.id;
  const asked = lacksAnswers(study)
    ? h("button", { type: "button", class: "small", onclick: () => ask(study.id) },
      now.kind === "failed" ? "Ask again" : "Ask", h("span", { class: "hidden" }, ` about ${name}`))
    : null;
  const cells = session.tasks.map((task) => {
    const answer = study.answers.find((entry) => entry.task === task.task);
    const verdict = study.verdicts.find((entry) => entry.task === task.task);
    return h("td", { role: "cell", "data-label": task.title }, answer ? h("span", {}, answer.text) : h("span", { class: "muted" }, "–"),
      answer?.outdated ? h("span", { class: "tag" }, "older weights") : null,
      verdict ? verdictTag(verdict.verdict) : null);
  });
  return h("tr", { role: "row", "data-id": study.id },
    h("th", { scope: "row", role: "rowheader" }, h("a", { href: address }, name)),
    h("td", { role: "cell", "data-label": "Status" }, stateMark(now), asked), cells);
}
