// One chunkserver: disks, load, what is left of a drain, and what can be done with it.
import { get, post } from "../js/api.js";
import { chart } from "../js/chart.js";
import { confirmChange } from "../js/dialogs.js";
import { h } from "../js/dom.js";
import * as f from "../js/format.js";
import { kRanges, Series } from "../js/history.js";
import { bar, card, diskKind, empty, facts, flushCard, head, impactView, modeText, segments, spaceBar, stateTag, table, tag } from "../js/parts.js";

const state = { seconds: 300, series: null };

const input = (label, name, its, again, more = {}) => h("label", { class: "field" }, label,
  h("input", { name, value: its[name] || "", oninput: (event) => { its[name] = event.target.value; }, onchange: again, ...more }));
const force = (its, again) => h("label", { class: "check" },
  h("input", { type: "checkbox", name: "force", checked: its.force, onchange: (event) => { its.force = event.target.checked; again(); } }), "Do it although it breaks a policy (the reason is kept)");

const kActions = {
  SERVER_DRAIN: { verb: "Drain", text: "All its chunks are moved to other servers: copied, verified, recorded, then removed here.", preview: true },
  SERVER_MAINTENANCE: { verb: "Maintenance of", text: "It will be away for a while: its copies are not replaced meanwhile.", preview: true },
  SERVER_UNDRAIN: { verb: "Take back", text: "It is in service again, as before." },
  SERVER_REMOVE: { verb: "Remove", text: "For good: it is refused when it comes back, and forgotten.", preview: true, danger: true },
};

function change(id, action, refresh) {
  const { verb, text, preview, danger } = kActions[action];
  const body = (its, more) => ({
    server: id, action, reason: its.reason || "", force: Boolean(its.force) && !more.preview,
    seconds: action === "SERVER_MAINTENANCE" ? String(f.parseDuration(its.duration) || 0) : "0", ...more,
  });
  confirmChange({
    title: `${verb} ${f.serverName(id)}`, text, danger, label: verb.split(" ")[0] === "Maintenance" ? "Begin maintenance" : verb,
    fields: (its, again) => [
      action === "SERVER_MAINTENANCE" && input("For how long (30m, 2h, 1d)", "duration", its, again, { required: true }),
      action !== "SERVER_UNDRAIN" && input("Reason, for the event log", "reason", its, again),
      its.refused && force(its, again),
    ],
    preview: preview && (async (its) => {
      const answer = await post("server", body(its, { preview: true }));
      its.refused = answer.refusals.length > 0;
      return { content: impactView(answer.impact, answer.refusals, action === "SERVER_DRAIN"), refused: its.refused };
    }),
    apply: async (its) => {
      const answer = await post("server", body(its, { preview: false }));
      refresh();
      return answer.outcome || "Done.";
    },
  }, { duration: "1h" });
}

function actions(server, refresh) {
  const button = (action, text) => h("button", { type: "button", "data-action": action, onclick: () => change(server.server, action, refresh) }, text);
  if (server.mode === "removed") return [];
  const away = server.mode !== "in service";
  return [
    away ? button("SERVER_UNDRAIN", "Take back into service") : [button("SERVER_DRAIN", "Drain…"), button("SERVER_MAINTENANCE", "Maintenance…")],
    button("SERVER_REMOVE", "Remove…"),
  ];
}

function drain(server, chunks) {
  const start = f.n(server.drain_chunks_at_start), left = f.n(chunks.chunks);
  if (server.mode !== "draining" && server.mode !== "drained") return null;
  return card("Drain", server.mode === "drained" ? "it is empty" : f.n(chunks.eta_seconds) ? `about ${f.about(chunks.eta_seconds)} left` : null,
    h("div", { class: "stack" },
      h("p", {}, `${f.plural(left, "chunk")} (${f.bytes(chunks.bytes)}) still on it, ${chunks.moved} of ${start} moved`),
      bar(start ? f.n(chunks.moved) / start : 1, { kind: "", label: f.percent(f.n(chunks.moved), start) }),
      chunks.groups.length > 0 && table([{ title: "Chunks", num: true }, { title: "Why still here", text: true }, { title: "Example" }],
        chunks.groups.map((group) => [group.chunks, [h("p", {}, group.reason), h("p", { class: "muted small" }, group.next_attempt)],
          h("a", { href: `#/chunk/${group.example_chunk}` }, group.example_chunk)]))));
}

function charts(render) {
  const { t, ...columns } = state.series.last(state.seconds);
  const common = { times: t, seconds: state.seconds };
  return [
    head("Load", segments("Range", kRanges, state.seconds, (seconds) => { state.seconds = seconds; render(); })),
    h("div", { class: "grid two" },
      card("Throughput", null, chart({ ...common, name: "Throughput", binary: true, series: [
        { name: "read", values: columns.read_bps || [], format: f.rate }, { name: "written", values: columns.write_bps || [], format: f.rate }] })),
      card("Load of the data plane", null, chart({ ...common, name: "Load", series: [
        { name: "busy", values: (columns.load || []).map((value) => (value === null ? null : value * 100)), format: (value) => `${value.toFixed(1)} %` }] })),
      card("Space of chunks", null, chart({ ...common, name: "Space", binary: true, series: [{ name: "used", values: columns.used_bytes || [], format: f.bytes }] }))),
  ];
}

const find = (status, id) => [...status.servers, ...status.removed_servers].find((one) => one.server === id);

export default {
  title: (route) => f.serverName(route.argument),
  enter(route) { state.series = new Series(Number(route.argument)); },
  async load(route) {
    const id = Number(route.argument);
    const [chunks] = await Promise.all([
      get("server-chunks", { server: id }),
      state.series.update(),
    ]);
    return { chunks };
  },
  view({ status, data, route, refresh, render }) {
    const server = find(status, Number(route.argument));
    if (!server) return [head(f.serverName(route.argument)), empty("There is no such server")];
    return [
      head([f.serverName(server.server), " ", server.mode === "removed" ? tag("idle", "removed") : stateTag(server), " ",
            server.mode !== "in service" && server.mode !== "removed" && tag("warn", modeText(server))], ...actions(server, refresh)),
      h("div", { class: "grid two" },
        card("Server", null, facts([
          ["State", `${server.state}, ${server.state === "up" ? "heartbeat" : "down since"} ${f.about(f.n(server.last_heartbeat_ms) / 1000)}${server.state === "up" ? " ago" : ""}`],
          ["Mode", `${modeText(server)}${server.mode_reason ? `: ${server.mode_reason}` : ""}`],
          ["Address", h("code", {}, server.address)],
          ["Zone", server.zone_set ? `${server.zone || "–"} (set here; it says ${server.own_zone || "none"})` : server.zone || "–"],
          ["Rack", server.rack_set ? `${server.rack || "–"} (set here; it says ${server.own_rack || "none"})` : server.rack || "–"],
          ["Host", h("code", {}, server.host_id)],
          ["Version", server.version],
          ["Chunks", `${server.chunks} (${f.bytes(data.chunks.bytes)})`],
          ["Went down", `${f.plural(server.downs_last_hour, "time")} within the last hour`],
          ["Clock", `${f.n(server.clock_skew_ms)} ms off the master's`],
        ])),
        flushCard("Disks", f.plural(server.disks.length, "disk"), table(
          [{ title: "Path", text: true }, { title: "State" }, { title: "Tags", text: true }, { title: "Chunks", num: true }, { title: "Use" }],
          server.disks.map((disk) => [[h("code", {}, disk.path), disk.problem && h("p", { class: "small muted" }, disk.problem)],
            tag(diskKind(disk.state), disk.state), disk.storage_class || "–", disk.chunks,
            h("span", { class: "use" }, spaceBar([disk]), h("span", { class: "small muted" }, `${f.bytes(disk.used_bytes)} of chunks, ${f.bytes(disk.free_bytes)} free of ${f.bytes(disk.total_bytes)}`))]),
          "No disks are known: it has not registered since the master started"))),
      drain(server, data.chunks),
      charts(render),
    ];
  },
};
