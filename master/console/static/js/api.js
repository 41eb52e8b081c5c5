// The console's JSON interface. A failed answer is an Error with the text that the master gave; `unreachable`
// when there was none.

// The secret of the login, for this tab and this origin only. A cookie would also go to other ports of the host.
const kSecret = "cairn-session";
let session = { logged_in: false };

export const loggedIn = () => session.logged_in;

async function call(method, path, body) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const secret = sessionStorage.getItem(kSecret);
  if (secret) headers["Cairn-Session"] = secret;
  let response;
  try {
    response = await fetch(path, {
      method, headers, cache: "no-store", credentials: "same-origin", redirect: "error",
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(20000),
    });
  } catch {
    throw Object.assign(new Error("no answer from the master"), { unreachable: true });
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  throw Object.assign(new Error(answer.error || `the master answered ${response.status}`),
                      { status: response.status, unreachable: response.status === 503 });
}

export const get = (path, query) => {
  const text = new URLSearchParams(Object.entries(query || {}).filter(([, value]) => value !== undefined)).toString();
  return call("GET", `/api/${path}${text ? `?${text}` : ""}`);
};
export const post = (path, body) => call("POST", `/api/${path}`, body);

export async function loadSession() {
  session = await call("GET", "/api/session");
  if (!session.logged_in) sessionStorage.removeItem(kSecret);
}
export async function login(token) {
  const { session: secret } = await post("login", { token });
  sessionStorage.setItem(kSecret, secret);
  session = { ...session, logged_in: true };
}
export async function logout() {
  try {
    await post("logout", {});
  } finally {
    forgetLogin();
  }
}
// The session ended at the master (it was restarted, or time was up).
export function forgetLogin() {
  sessionStorage.removeItem(kSecret);
  session = { ...session, logged_in: false };
}
