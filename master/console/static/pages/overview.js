// The state of the cluster on one screen.
import { chart } from "../js/chart.js";
import { h } from "../js/dom.js";
import * as f from "../js/format.js";
import { kRanges, Series } from "../js/history.js";
import { bar, card, counts, dot, eventRow, facts, head, healthKind, segments, serverKind, serverLink, space, tag } from "../js/parts.js";

const history = new Series();
const state = { seconds: 300 };

function health(status) {
  const notes = [...status.reasons.map((text) => ["bad", text]), ...status.warnings.map((text) => ["warn", text])];
  return card(null, null, h("div", { class: "stack" },
    h("div", {}, tag(healthKind(status.health), status.health, "large")),
    notes.length
      ? h("ul", { class: "list reasons" }, notes.map(([kind, text]) => h("li", { class: `note ${kind}` }, text)))
      : h("p", { class: "muted" }, "All servers are up, every chunk has the copies that its policy asks for."),
    f.n(status.grace_left_ms) > 0 &&
      h("p", { class: "note warn" }, `The master restarted: new leases are granted in ${f.about(f.n(status.grace_left_ms) / 1000)} at the latest.`)));
}

function capacity(status) {
  const all = f.n(status.usable_bytes), free = f.n(status.usable_free_bytes);
  // Not the sum of what disks report: servers may share one.
  const raw = f.n(status.raw_bytes), chunks = space(status.servers.flatMap((server) => server.disks)).used;
  const others = Math.max(0, raw - f.n(status.raw_free_bytes) - chunks);
  return card("Capacity", `${status.root_policy.replicas} copies, ${status.root_policy.write_quorum} confirm a write`,
    h("div", { class: "stack" },
      h("p", { class: "big" }, f.bytes(free), h("small", {}, ` free of ${f.bytes(all)} usable`)),
      bar(raw ? chunks / raw : 0, { rest: raw ? others / raw : 0, label: `${f.bytes(chunks)} of chunks, ${f.bytes(others)} of others` }),
      facts([
        ["Raw", `${f.bytes(status.raw_free_bytes)} free of ${f.bytes(status.raw_bytes)}`],
        ["Taken", `${f.bytes(chunks)} by chunks, ${f.bytes(others)} by others`],
        ["Content", `${f.plural(status.inodes, "inode")}, ${f.plural(status.chunks, "chunk")}`],
        ["Trash", f.n(status.trash_files) ? `${f.bytes(status.trash_bytes)} in ${f.plural(status.trash_files, "file")}` : "empty"],
      ])));
}

function chunks(status) {
  return card("Chunks", "most urgent first",
    counts([
      ["damaged", status.chunks_damaged, "bad"],
      ["below quorum", status.chunks_below_quorum, "bad"],
      ["below policy", status.chunks_below_policy, "warn"],
      ["to move or reconfigure", status.chunks_misplaced],
      ["being deleted", status.chunks_deleting],
    ]));
}

function work(status) {
  const balance = status.rebalance;
  const planned = f.n(balance.planned_bytes), moved = f.n(balance.moved_bytes);
  return card("Repair and balance", null, h("div", { class: "stack" },
    facts([
      ["Repairs", `${status.repairs_running} running, ${status.repairs_queued} queued`],
      ["Repaired", `${f.plural(status.repaired_chunks, "chunk")}, ${f.bytes(status.repaired_bytes)} sent`],
      ["Moved", `${f.plural(status.moved_chunks, "chunk")}, ${f.bytes(status.moved_bytes)}`],
      ["Balance", h("a", { href: "#/rebalance" }, `${balance.state}${balance.scope && balance.state !== "idle" ? ` (${balance.scope})` : ""}, spread ${balance.spread_percent.toFixed(2)} %`)],
    ]),
    balance.state !== "idle" && planned > 0 && bar(moved / planned, { kind: "", label: f.percent(moved, planned) })));
}

function attention(status) {
  const rows = [];
  for (const server of status.servers) {
    const kind = serverKind(server);
    if (kind === "ok") continue;
    const why = server.state !== "up"
      ? `down, last heard of ${f.about(f.n(server.last_heartbeat_ms) / 1000)} ago${server.mode === "maintenance" ? ", in maintenance" : ""}`
      : server.mode !== "in service" ? server.mode
      : server.downs_last_hour >= 3 ? `went down ${server.downs_last_hour} times within the hour` : "has a failed or missing disk";
    rows.push(h("li", { class: "row", "data-key": server.server }, dot(kind), serverLink(server.server), h("span", { class: "muted" }, why)));
  }
  const up = status.servers.filter((server) => server.state === "up").length;
  return card("Servers", `${up} of ${status.servers.length} up`,
    rows.length ? h("ul", { class: "list" }, rows) : h("p", { class: "muted" }, "None needs attention."));
}

function charts() {
  const { t, ...columns } = history.last(state.seconds);
  const common = { times: t, seconds: state.seconds };
  const of = (name, values, format) => ({ name, values: values || [], format });
  return h("div", { class: "grid two" },
    card("Throughput", "copies included",
      chart({ ...common, name: "Throughput", binary: true, series: [of("read", columns.read_bps, f.rate), of("written", columns.write_bps, f.rate)] })),
    card("Requests to the master", null,
      chart({ ...common, name: "Requests", series: [of("requests", columns.operations, f.perSecond)] })),
    card("Latency at the master", "waits included",
      chart({ ...common, name: "Latency", series: [of("mean", columns.latency_mean_ms, f.ms), of("99th percentile", columns.latency_p99_ms, f.ms)] })),
    card("Latency at the chunkservers", "mean",
      chart({ ...common, name: "Data latency", series: [of("read", columns.read_ms, f.ms), of("write", columns.write_ms, f.ms)] })),
    card("Repair and moves", null,
      chart({ ...common, name: "Repair", binary: true, series: [of("copied", columns.repair_bps, f.rate)] })),
    card("Chunks below policy", null,
      chart({ ...common, name: "Chunks below policy", series: [of("chunks", columns.below_policy, f.count)] })));
}

export default {
  title: "Overview",
  load: () => history.update(),
  view({ status, render }) {
    return [
      h("div", { class: "grid" }, health(status), capacity(status), chunks(status), work(status), attention(status),
        card("Master", null, facts([
          ["Sessions", h("a", { href: "#/sessions" }, String(status.sessions))],
          ["Log", `entry ${status.log_index}`],
          ["On disk", `up to ${status.durable_index}`],
          ["Version", status.version],
        ]))),
      head("Load", segments("Range", kRanges, state.seconds, (seconds) => { state.seconds = seconds; render(); })),
      charts(),
      card("Recent events", h("a", { href: "#/events" }, "all events"),
        status.recent_events.length
          ? h("ul", { class: "list" }, [...status.recent_events].reverse().map(eventRow))
          : h("p", { class: "muted" }, "None yet.")),
    ];
  },
};
