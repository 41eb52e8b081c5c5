// The shell: which page is shown, asking again every two seconds, what the header says, and the state of
// "no answer". Pages (pages/*.js) are objects:
//   title                        in the browser's tab; may be a function of the route
//   async load(route)            asks for what only this page needs
//   view(context)                what to show; context has status, data, route, refresh, render
//   period                       milliseconds between two loads (default: each round)
import { get, loadSession, loggedIn, logout } from "./api.js";
import { askForToken } from "./dialogs.js";
import { h, show } from "./dom.js";
import * as f from "./format.js";
import { healthKind, tag } from "./parts.js";
import chunk from "../pages/chunk.js";
import events from "../pages/events.js";
import files from "../pages/files.js";
import overview from "../pages/overview.js";
import policy from "../pages/policy.js";
import rebalance from "../pages/rebalance.js";
import server from "../pages/server.js";
import servers from "../pages/servers.js";
import sessions from "../pages/sessions.js";
import topology from "../pages/topology.js";

const kRoundMs = 2000;
const kPages = { overview, topology, servers, server, rebalance, files, chunk, policy, events, sessions };
const kNav = [["overview", "Overview"], ["topology", "Topology"], ["servers", "Servers"], ["rebalance", "Rebalance"],
              ["files", "Files"], ["policy", "Policy"], ["events", "Events"], ["sessions", "Sessions"]];
const kBelongsTo = { server: "servers", chunk: "files" };

const at = (id) => document.getElementById(id);
const app = { status: null, data: null, error: null, route: null, lost: null, answered: 0, loadedAt: 0, visit: 0 };

// "#/server/3?tab=x" -> {page, argument, query}
function parseRoute() {
  const [path, query] = (location.hash || "#/overview").slice(1).split("?");
  const [page, ...rest] = path.split("/").filter(Boolean);
  return { page: kPages[page] ? page : "overview", argument: rest.map(decodeURIComponent).join("/"),
           query: new URLSearchParams(query || "") };
}

function drawFrame() {
  const chosen = kBelongsTo[app.route.page] || app.route.page;
  show(at("nav"), kNav.map(([page, title]) =>
    h("a", { href: `#/${page}`, "aria-current": page === chosen ? "page" : undefined }, title)));
  at("theme").textContent = window.cairnTheme.dark() ? "Light" : "Dark";
  at("theme").title = "Switch between the light and the dark theme";
  at("login").textContent = loggedIn() ? "Log out" : "Log in";
  at("login").title = loggedIn() ? "An administrator is logged in" : "Changes need the administrator's token";
}

function drawHeadline() {
  if (!app.status) return;
  const { status } = app;
  const up = status.servers.filter((one) => one.state === "up").length;
  show(at("headline"), tag(app.lost ? "idle" : healthKind(status.health), app.lost ? "unknown" : status.health),
       h("span", { class: "detail narrow" }, `${up}/${status.servers.length} up`),
       h("span", { class: "detail wide" }, h("span", { id: "up" }, `${up} of ${status.servers.length} servers up`), h("span", {}, ` · cluster ${status.cluster_id.slice(0, 8)} · Cairn ${status.version}`)));
}

function drawBanner() {
  const banner = at("banner");
  banner.hidden = !app.lost;
  at("main").classList.toggle("stale", Boolean(app.lost));
  if (!app.lost) return;
  const since = app.answered ? `since ${f.clock(app.answered)} (${f.about((Date.now() - app.answered) / 1000)})` : "so far";
  banner.textContent = `${app.lost} ${since}. ${app.status ? "Below is what was known then; " : ""}asking again every two seconds.`;
}

export function render() {
  drawFrame();
  drawHeadline();
  drawBanner();
  const page = kPages[app.route.page];
  const title = typeof page.title === "function" ? page.title(app.route) : page.title;
  document.title = `${title} · Cairn`;
  let content;
  if (app.error) {
    content = [h("div", { class: "page-head" }, h("h1", {}, title)), h("p", { class: "note bad", role: "alert" }, app.error)];
    if (page.failed) content = page.failed({ ...app, refresh, render });
  } else if (!app.status || (page.load && app.data === null)) {
    content = app.lost ? [] : h("p", { class: "muted" }, "Loading…");
  } else {
    content = page.view({ ...app, refresh, render });
  }
  show(at("page"), content);
  at("page").dataset.page = app.route.page;
  at("page").dataset.ready = String(Boolean(app.status) && (!page.load || app.data !== null || Boolean(app.error)));
}

// One look at the cluster. What an earlier page asked for is not shown on a later one.
async function look(force) {
  const visit = app.visit, page = kPages[app.route.page];
  try {
    const due = page.load && (force || app.data === null || Date.now() - app.loadedAt >= (page.period || 0));
    const [status, data] = await Promise.all([
      get("status"),
      due ? page.load(app.route).then((loaded) => ({ loaded }), (error) => ({ error })) : null,
    ]);
    // It started anew, and its logins ended.
    if (app.status && app.status.incarnation !== status.incarnation) await loadSession().catch(() => {});
    app.status = status;
    f.noteServerNames(status.servers);
    app.lost = null;
    app.answered = Date.now();
    if (visit !== app.visit) return;
    if (data?.error) {
      if (data.error.unreachable || data.error.status === 401) throw data.error;
      app.error = data.error.message;
    } else if (data) {
      app.error = null;
      app.data = data.loaded;
      app.loadedAt = Date.now();
    }
  } catch (error) {
    if (error.status === 401) {
      app.lost = "Log in to see the cluster: no login";
      askForToken(refresh);
    } else {
      app.lost = error.unreachable ? "No answer from the master" : `The master refuses to answer (${error.message})`;
    }
  }
  if (visit === app.visit) render();
}

export const refresh = () => look(true);

let timer = 0;
async function round() {
  clearTimeout(timer);
  if (!document.hidden) await look(false);
  timer = setTimeout(round, kRoundMs);
}

function visit() {
  app.route = parseRoute();
  app.visit++;
  app.data = null;
  app.error = null;
  kPages[app.route.page].enter?.(app.route);
  render();
  scrollTo(0, 0);
  document.querySelector(".nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  look(true);
}

at("theme").onclick = () => { window.cairnTheme.toggle(); render(); };
at("login").onclick = async () => {
  if (!loggedIn()) return askForToken(refresh);
  await logout().catch(() => {});
  refresh();
};
addEventListener("hashchange", visit);
document.addEventListener("visibilitychange", () => { if (!document.hidden) round(); });
setInterval(() => { if (app.lost) drawBanner(); }, 1000);

await loadSession().catch(() => {});
visit();
timer = setTimeout(round, kRoundMs);
