// What several pages show: states, bars, servers, impacts, events.
import { h, s } from "./dom.js";
import * as f from "./format.js";

// A shape for each kind, so that colour is not needed to tell them apart.
const kShapes = {
  ok: "M5 0a5 5 0 1 0 .01 0z",
  warn: "M5 0 10 9.5H0z",
  bad: "M2 0 5 3 8 0l2 2-3 3 3 3-2 2-3-3-3 3-2-2 3-3-3-3z",
  info: "M0 1h10v8H0z",
  idle: "M5 0a5 5 0 1 0 .01 0zM5 2a3 3 0 1 1-.01 0z",
};
const shape = (kind) => s("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" },
                          s("path", { d: kShapes[kind] || kShapes.idle, "fill-rule": "evenodd" }));

export const tag = (kind, text, more = "") => h("span", { class: `tag ${kind} ${more}`.trim() }, shape(kind), text);
export const dot = (kind) => h("span", { class: `dot ${kind}` }, shape(kind));

export const card = (title, aside, ...children) =>
  h("section", { class: "card" }, title && h("h2", {}, title, aside && h("span", { class: "aside" }, aside)), children);
export const flushCard = (title, aside, ...children) =>
  h("section", { class: "card flush" }, title && h("h2", {}, title, aside && h("span", { class: "aside" }, aside)), children);
export const empty = (text) => h("p", { class: "empty" }, text);
export const head = (title, ...actions) =>
  h("div", { class: "page-head" }, h("h1", {}, title), actions.length ? h("div", { class: "actions" }, actions) : null);

export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter((pair) => pair && pair[1] !== undefined && pair[1] !== null && pair[1] !== "")
    .map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}
// [name, number, kind when it is not zero]
export function counts(rows) {
  return h("dl", { class: "counts" }, rows.map(([name, value, kind]) =>
    [h("dt", {}, name), h("dd", { class: f.n(value) === 0 ? "zero" : kind || "" }, String(value))]));
}

export function table(columns, rows, none) {
  if (rows.length === 0) return empty(none || "Nothing here");
  return h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, columns.map((column) =>
      h("th", { class: [column.num && "num", column.wide && "wide"].filter(Boolean).join(" ") || undefined, scope: "col" }, column.title)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, i) =>
      h("td", { class: [columns[i].num && "num", columns[i].wide && "wide", columns[i].text && "text"].filter(Boolean).join(" ") || undefined }, cell)))))));
}

// How full: above 80 and 90 percent it is told by colour, and by the number beside it.
const fullness = (share) => (share >= 0.9 ? "bad" : share >= 0.8 ? "warn" : "");
export function bar(share, { thin = false, label = "", kind, rest = 0 } = {}) {
  const width = (value) => `${Math.min(100, Math.max(value > 0 ? 0.7 : 0, value * 100)).toFixed(1)}%`;
  return h("span", { class: `bar ${thin ? "thin" : ""} ${kind ?? fullness(share + rest)}`.trim(), role: "img",
                     "aria-label": label || `${Math.round(share * 100)} %` },
           h("i", { style: { width: width(share) } }),
           rest > 0 && h("i", { class: "rest", style: { left: width(share), width: width(rest) } }));
}

// Space of disks: what chunks take, what others take, what is free.
export function space(disks) {
  const sum = (field) => disks.reduce((total, disk) => total + f.n(disk[field]), 0);
  const total = sum("total_bytes"), free = sum("free_bytes"), used = sum("used_bytes");
  const others = Math.max(0, total - free - used);
  return { total, free, used, usedShare: total ? used / total : 0, othersShare: total ? others / total : 0, others };
}
export function spaceBar(disks, options = {}) {
  const its = space(disks);
  return bar(its.usedShare, { ...options, rest: its.othersShare,
                              label: `${f.bytes(its.used)} of chunks, ${f.bytes(its.others)} of others, ${f.bytes(its.free)} free of ${f.bytes(its.total)}` });
}

export const healthKind = (health) => ({ healthy: "ok", degraded: "warn", unavailable: "bad" }[health] || "idle");
export const diskKind = (state) => ({ ok: "ok", full: "warn", amnesic: "warn", draining: "info", drained: "info",
                                        missing: "bad", failed: "bad" }[state] || "idle");
export function serverKind(server) {
  if (server.state !== "up") return server.mode === "maintenance" ? "warn" : "bad";
  const disk = server.disks.some((one) => one.state === "failed" || one.state === "missing");
  return disk ? "bad" : server.mode !== "in service" || server.downs_last_hour >= 3 ? "warn" : "ok";
}
export const stateTag = (server) => tag(server.state === "up" ? "ok" : serverKind(server), server.state);
export function modeText(server) {
  const left = f.n(server.maintenance_left_ms);
  return server.mode + (left ? ` for ${f.duration(left / 1000)}` : "");
}
export const serverLink = (id) => h("a", { href: `#/server/${id}` }, f.serverName(id));
export const serverLinks = (ids) => ids.map((id, i) => [i ? ", " : "", serverLink(id)]);
export const place = (server) => [server.zone, server.rack].filter(Boolean).join(" / ") || "–";

const kSeverity = { error: "bad", critical: "bad", warning: "warn", info: "info", notice: "info" };
export const severityKind = (severity) => kSeverity[severity] || "idle";
export function eventRow(event) {
  return h("li", { class: "row", "data-key": event.number }, dot(severityKind(event.severity)),
           h("span", { class: "muted nowrap" }, f.clock(event.unix_ms)), h("span", { class: "grow event-text" }, event.text));
}

const kMember = { current: "ok", stale: "warn", missing: "bad", corrupt: "bad", unreachable: "bad", tombstone: "info" };
const kChunk = { sealed: "ok", open: "info", recovering: "warn", deleting: "info", damaged: "bad" };
export const memberKind = (state) => kMember[state] || "idle";
export const chunkTag = (chunk) => tag(kChunk[chunk.state] || "idle", chunk.state);
export const memberTags = (chunk) => h("span", { class: "row" }, chunk.members.map((member) =>
  h("span", { title: member.state }, tag(memberKind(member.state), f.serverName(member.server)))));

// What the absence of servers means; `refusals` say why a change is refused. `drain`: they stay until their chunks are elsewhere.
export function impactView(impact, refusals = [], drain = false) {
  if (!impact) return null;
  const files = (count) => (f.n(count) ? ` (${f.plural(count, "file")})` : "");
  const eta = f.n(impact.eta_seconds) ? `, about ${f.about(impact.eta_seconds)} at the speed measured so far` : "";
  return h("div", { class: "stack impact" },
    refusals.length
      ? h("div", { class: "note bad" }, h("p", {}, h("b", {}, "Refused, because")), refusals.map((why) => h("p", {}, why)))
      : null,
    counts([
      [`chunks with a copy there (${f.bytes(impact.bytes)})`, impact.chunks],
      ...(drain ? [] : [
        ["with fewer copies than their policy asks for", impact.chunks_below_policy, "warn"],
        [`that could not be written${files(impact.files_unwritable)}`, impact.chunks_unwritable, "bad"],
        [`that could not be read${files(impact.files_unreadable)}`, impact.chunks_unreadable, "bad"],
        [`that would be lost${files(impact.files_lost)}`, impact.chunks_lost, "bad"],
      ]),
      ["that find no other server", impact.chunks_homeless, "bad"],
    ]),
    drain && h("p", { class: "small" }, "No chunk has fewer copies meanwhile."),
    h("p", { class: "muted small" }, `${f.bytes(impact.bytes_to_copy)} to copy, ${f.bytes(impact.free_bytes_elsewhere)} free on the other servers${eta}`),
    impact.example_paths.length
      ? h("div", { class: "small" }, h("p", { class: "muted" }, `${impact.example_kind}, for example:`),
          impact.example_paths.map((path) => h("p", {}, h("code", {}, path))))
      : null);
}

// One of a few, as buttons side by side.
export function segments(label, options, chosen, choose) {
  return h("span", { class: "segments", role: "group", "aria-label": label }, options.map(([value, text]) =>
    h("button", { type: "button", "aria-pressed": String(value === chosen), onclick: () => choose(value) }, text)));
}
