// Keys of the page, and the help that lists them. Single letters can be switched off for those who dictate.

import { h, say } from "./dom.js";

const OFF = "radclear-letters-off";
const bindings = new Map(); // view → key → {words, action}
let view = "";

/** Say which keys a view has: `[["j", "next study", action], …]`. The same words may have several keys. */
export function bind(name, list) {
  bindings.set(name, list);
}

/** Which view's keys count now. */
export function use(name) {
  view = name;
}

function lettersOff() {
  return localStorage.getItem(OFF) === "yes";
}

function isTyping(target) {
  return target.matches("textarea, select, input:not([type=radio], [type=checkbox], [type=range])");
}

/** Start listening. */
export function listen() {
  bind("everywhere", [["?", "this help", toggleHelp]]);
  document.getElementById("help-button").addEventListener("click", toggleHelp);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
    if (document.getElementById("help").open && event.key !== "?") return;
    if (isTyping(event.target) && event.target.type !== "search" && event.key === "Escape") return event.target.blur();
    if (isTyping(event.target) && event.key !== "Escape") return;
    if (event.key.length === 1 && lettersOff()) return;
    const found = [...(bindings.get(view) ?? []), ...bindings.get("everywhere")].find(([key]) => key === event.key);
    if (!found || (event.target.matches("[type=range]") && event.key.startsWith("Arrow"))) return;
    event.preventDefault();
    found[2]();
  });
}

/** Open or close the help. */
export function toggleHelp() {
  const dialog = document.getElementById("help");
  if (dialog.open) return dialog.close();
  const off = h("input", { type: "checkbox", id: "letters", onchange: change });
  off.checked = !lettersOff();
  dialog.replaceChildren(
    h("h2", { id: "help-title" }, "Keys and help"),
    h("p", {}, "Everything can be reached with Tab, Enter, Space and the arrow keys. These keys are quicker:"),
    h("div", { class: "keylists" },
      table("On the worklist", bindings.get("worklist")),
      table("On a study", bindings.get("study")),
      h("div", {}, table("Everywhere", [...bindings.get("everywhere"), ["Esc", "close this help"]]),
        h("p", {}, h("label", { class: "choice", for: "letters" }, off, "Single keys are on (off: only Tab, Enter and arrows)")),
        h("h3", {}, "What is shown"),
        h("p", { class: "muted" }, "The patient’s right is at the left of every picture. Slices are counted from the foot end; a "
          + "viewer that counts from the head numbers them differently, the z position is the same. The curve shows which "
          + "share of the answer’s weight each slice received: where the model looked, not where a lesion is."))),
    h("form", { method: "dialog" }, h("button", { class: "main" }, "Close")));
  dialog.showModal();

  function change() {
    if (off.checked) localStorage.removeItem(OFF);
    else localStorage.setItem(OFF, "yes");
    say(off.checked ? "Single keys are on." : "Single keys are off.");
  }
}

function table(title, list) {
  const keys = new Map();
  for (const [key, words] of list ?? []) keys.set(words, [...(keys.get(words) ?? []), key]);
  return h("section", {}, h("h3", {}, title),
    h("dl", { class: "keys" }, [...keys].map(([words, names]) =>
      h("div", {}, h("dt", {}, names.map((name) => h("kbd", {}, shown(name)))), h("dd", {}, words)))));
}

function shown(key) {
  return { ArrowDown: "↓", ArrowUp: "↑", Escape: "Esc" }[key] ?? key;
}
