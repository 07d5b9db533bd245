// The page: which view is shown, and what happens when the server wants to know who reads.

import { hasToken, openViewers, request, signOut } from "./api.js";
import { h, say, showView } from "./dom.js";
import { bind, listen, use } from "./keys.js";
import { showSignIn } from "./signin.js";
import { showStudy, studyKeys } from "./study.js";
import { showWorklist } from "./worklist.js";

let session = null;
let signingIn = false;

async function start() {
  try {
    session = await request("/radclear/session");
  } catch (error) {
    if (error.status === 401) return;
    const words = error.status === 403
      ? "You are signed in, but your account may not read here. Ask the administrator for the role of a user." : error.message;
    use("");
    showView("No connection", h("h1", {}, "The page cannot be opened"), h("p", { class: "error", role: "alert" }, words),
      h("button", { type: "button", onclick: start }, "Try again"));
    return;
  }
  document.getElementById("use").textContent = session.intended_use;
  document.getElementById("reader").textContent = session.reader ? `Reader: ${session.reader}` : "";
  document.getElementById("sign-out").hidden = !hasToken();
  bind("study", studyKeys(session)); // the help lists them before a study was opened
  let trouble = "";
  if (hasToken() && session.viewer) await openViewers().catch((error) => { trouble = error.message; });
  route();
  if (trouble) say(trouble);
}

function route() {
  if (!session) return;
  say("");
  const [, view, id, task] = parts(location.hash);
  use(view === "study" ? "study" : "worklist");
  if (view === "viewer" && hasToken() && id?.startsWith("/ohif/")) location.replace(id); // it sent the reader here
  else if (view === "study" && id) showStudy(session, id, task);
  else showWorklist(session);
}

/** The parts of an address; none of one that was cut in the middle of a sign, which the worklist is shown for. */
function parts(hash) {
  try {
    return hash.split("/").map(decodeURIComponent);
  } catch {
    return [];
  }
}

document.addEventListener("signin", ({ detail: hadToken }) => {
  if (session && !hadToken) return sayLoadAnew(); // a proxy had signed the reader in: it would not let the form through
  askWhoReads(hadToken ? "The server does not accept this sign-in, or no longer. Sign in again." : "");
});
document.getElementById("sign-out").addEventListener("click", async () => {
  try {
    await signOut();
    document.getElementById("reader").textContent = "";
    askWhoReads("You are signed out. Close the windows of OHIF, too: what they show stays there.");
  } catch (error) {
    say(error.message);
  }
});

function askWhoReads(message) {
  if (signingIn) return;
  signingIn = true;
  session = null;
  use("");
  document.getElementById("sign-out").hidden = true;
  showSignIn(message, () => {
    signingIn = false;
    start();
  });
}

function sayLoadAnew() {
  signingIn = true;
  session = null;
  use("");
  showView("Sign in", h("h1", {}, "Your sign-in is over"),
    h("p", { class: "error", role: "alert" }, "Load this page anew to sign in again. What was not stored has to be entered again."),
    h("button", { type: "button", class: "main", onclick: () => location.reload() }, "Load anew"));
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says which view is shown, and stays
  document.getElementById("main").focus();
});
window.addEventListener("hashchange", route);
listen();
start();
