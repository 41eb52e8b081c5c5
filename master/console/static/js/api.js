// The console's JSON interface. A failed answer is an Error with the text that the master gave; `unreachable`
// when there was none.

let session = { logged_in: false };

export const loggedIn = () => session.logged_in;

async function call(method, path, body) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (session.csrf && method !== "GET") headers["X-CSRF-Token"] = session.csrf;
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
  return session;
}
export async function login(token) {
  session = await post("login", { token });
}
export async function logout() {
  session = await post("logout", {});
}
// The session ended at the master (it was restarted, or time was up).
export function forgetLogin() {
  session = { ...session, logged_in: false, csrf: undefined };
}
