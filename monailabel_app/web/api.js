// Questions to the server. The token lives in this module's memory only and is gone when the page is closed; for OHIF,
// which sends no token, the server gives the browser a cookie that no script can read.

const KEPT_PICTURES = 96;
const PATIENCE = 8; // times a picture is asked for again while the server is busy

let token = "";
const pictures = new Map(); // address → blob address, the longest unused first

/** What the server, or the way to it, says against a request. */
export class ServerError extends Error {
  constructor(message, status, retryAfter) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }

  /** Whether asking again later may help. */
  get isBusy() {
    return this.status === 429 || this.status === 503 || this.status === 0;
  }
}

export function setToken(value) {
  token = value;
}

/** Whether this page has a token, rather than a proxy before the server. */
export function hasToken() {
  return token !== "";
}

/** Let OHIF in, in this browser, for as long as the token is valid. */
export async function openViewers() {
  await answer("/radclear/session", { method: "POST" });
}

/** Forget the token, here and behind the cookie. */
export async function signOut() {
  await answer("/radclear/session", { method: "DELETE" });
  token = "";
}

/** Ask the server; gives JSON. */
export async function request(path, { method = "GET", body = undefined } = {}) {
  return (await answer(path, { method, body })).json();
}

async function answer(path, { method = "GET", body = undefined } = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new ServerError("The server does not answer. It may be restarting, or the network is gone.", 0, 5);
  }
  if (response.ok) return response;
  const wait = Number(response.headers.get("Retry-After")) || 5;
  const error = new ServerError(await reason(response), response.status, wait);
  if (response.status === 401) document.dispatchEvent(new CustomEvent("signin", { detail: token !== "" }));
  throw error;
}

async function reason(response) {
  try {
    const { detail } = await response.json();
    if (typeof detail === "string") return sentence(detail);
  } catch {
    // not JSON: a proxy's page, or the server fell over
  }
  return `The server answered ${response.status} ${response.statusText}.`;
}

function sentence(text) {
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}

/** The address of a picture in this page's memory; asks again while the server is busy. */
export async function picture(path) {
  const known = pictures.get(path);
  if (known) {
    pictures.delete(path);
    pictures.set(path, known);
    return known;
  }
  for (let attempt = 0; ; attempt += 1) {
    try {
      const address = URL.createObjectURL(await (await answer(path)).blob());
      if (pictures.has(path)) URL.revokeObjectURL(pictures.get(path));
      pictures.set(path, address);
      if (pictures.size > KEPT_PICTURES) {
        const [oldest, gone] = pictures.entries().next().value;
        pictures.delete(oldest);
        URL.revokeObjectURL(gone);
      }
      return address;
    } catch (error) {
      if (!error.isBusy || attempt >= PATIENCE) throw error;
      await seconds(Math.min(error.retryAfter, 2));
    }
  }
}

/** Wait. */
export function seconds(number) {
  return new Promise((resolve) => setTimeout(resolve, 1000 * number));
}

/** Get a token for a name and a password from MONAI Label, which asks the realm. */
export async function signIn(username, password) {
  let response;
  try {
    response = await fetch("/auth/token", { method: "POST", body: new URLSearchParams({ username, password }) });
  } catch {
    throw new ServerError("The server does not answer.", 0, 5);
  }
  if (!response.ok) {
    throw new ServerError("The sign-in was refused. Check name and password; a token can be pasted below.", 401, 0);
  }
  setToken((await response.json()).access_token);
}
