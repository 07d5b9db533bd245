// Signing in, where the server checks tokens.

import { setToken, signIn } from "./api.js";
import { h, showView } from "./dom.js";

/** Ask for a name and a password, or a token; calls `done` when there is a token to try. */
export function showSignIn(message, done) {
  const error = h("p", { class: "error", role: "alert" }, message);
  const name = h("input", { id: "user", autocomplete: "username", required: true });
  const password = h("input", { id: "password", type: "password", autocomplete: "current-password", required: true });
  const token = h("input", { id: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true });
  const withPassword = h("form", { class: "card", onsubmit: byPassword },
    h("h2", {}, "With name and password"),
    h("label", { for: "user" }, "User name"), name,
    h("label", { for: "password" }, "Password"), password,
    h("button", { class: "main" }, "Sign in"));
  const withToken = h("form", { class: "card", onsubmit: byToken },
    h("h2", {}, "With a token"),
    h("label", { for: "token" }, "Access token of your hospital’s sign-in service"), token,
    h("button", {}, "Use the token"));
  showView("Sign in", h("h1", {}, "Sign in"), error,
    h("p", {}, "This server wants to know who reads. What you enter stays in the memory of this page and is gone when "
      + "it is closed or loaded anew; OHIF stays open in this browser until you sign out, close the browser, or your "
      + "sign-in’s time is over. Behind a proxy that signs you in, this form does not appear."),
    h("div", { class: "signin" }, withPassword, withToken));

  async function byPassword(event) {
    event.preventDefault();
    error.textContent = "";
    try {
      await signIn(name.value, password.value);
      done();
    } catch (problem) {
      error.textContent = problem.message;
      password.value = "";
      password.focus();
    }
  }

  function byToken(event) {
    event.preventDefault();
    error.textContent = ""; // what is said of this token comes with the server's word
    setToken(token.value.trim().replace(/^Bearer\s+/i, ""));
    done();
  }
}
