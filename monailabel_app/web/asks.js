// Studies to ask about, sent one after another. Where the server's line is full this one waits and says so.

import { request, ServerError } from "./api.js";

const line = []; // ids, first to be sent first
const failures = new Map(); // id → why it was not taken
let busy = ""; // what the server said last, while waiting
let wakeAt = 0;
let timer = 0;
let sending = false;

function changed() {
  document.dispatchEvent(new CustomEvent("asks"));
}

/** Ask for the answers to a study. */
export function ask(id) {
  failures.delete(id);
  if (!line.includes(id)) line.push(id);
  changed();
  pump();
}

/** What this page knows of a study's question: `{place}` in line here, `{failure}`, or nothing. */
export function local(id) {
  const place = line.indexOf(id);
  return { place: place < 0 ? 0 : place + 1, failure: failures.get(id) ?? "" };
}

/** What is shown while the server is busy: its words, seconds to the next try, studies in line here. */
export function waiting() {
  const left = Math.max(0, Math.ceil((wakeAt - Date.now()) / 1000));
  return line.length ? { text: busy, left, studies: line.length } : null;
}

/** Ask no more. What the server has taken goes on. */
export function stop() {
  line.length = 0;
  busy = "";
  clearTimeout(timer);
  changed();
}

/** Do not wait for the time that the server named. */
export function tryNow() {
  clearTimeout(timer);
  wakeAt = 0;
  pump();
}

async function pump() {
  if (sending || wakeAt > Date.now()) return;
  sending = true;
  try {
    while (line.length && (await send(line[0]))) changed();
  } finally {
    sending = false;
    changed();
  }
}

/** Whether the next one can be sent at once. */
async function send(id) {
  try {
    await request(`/radclear/study/${encodeURIComponent(id)}/ask`, { method: "POST" });
    busy = "";
    document.dispatchEvent(new CustomEvent("asked", { detail: id }));
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    if (error.isBusy) {
      busy = error.message;
      wakeAt = Date.now() + 1000 * error.retryAfter;
      timer = setTimeout(tryNow, 1000 * error.retryAfter);
      return false;
    }
    failures.set(id, error.message);
  }
  take(id);
  return true;
}

function take(id) {
  const place = line.indexOf(id);
  if (place >= 0) line.splice(place, 1);
}
