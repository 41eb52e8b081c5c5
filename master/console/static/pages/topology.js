// Zones, racks, servers and their disks; and what the loss of one of them would mean.
import { post } from "../js/api.js";
import { confirmChange } from "../js/dialogs.js";
import { h } from "../js/dom.js";
import * as f from "../js/format.js";
import { diskKind, dot, empty, head, impactView, serverKind, space, spaceBar } from "../js/parts.js";

function grouped(servers, key) {
  const groups = new Map();
  for (const server of servers) {
    const name = key(server);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(server);
  }
  return [...groups].sort(([a], [b]) => a.localeCompare(b));
}

function whatIf(title, request) {
  confirmChange({
    title, text: "Nothing is changed: this is what the loss would mean now.",
    preview: async () => ({ content: impactView((await post("whatif", request)).impact) }),
  });
}
const whatIfButton = (title, request) =>
  h("button", { class: "quiet small", type: "button", onclick: () => whatIf(title, request) }, "What if it is lost?");

function node(server) {
  const its = space(server.disks);
  return h("a", { class: `node ${serverKind(server)}`, href: `#/server/${server.server}`, "data-key": server.server },
    h("span", { class: "row between" },
      h("span", { class: "row" }, dot(serverKind(server)), h("b", {}, f.serverName(server.server)),
        h("span", { class: "muted" }, server.state === "up" && server.mode === "in service" ? "" : [server.state, server.mode].filter((one) => one !== "up" && one !== "in service").join(", "))),
      h("span", { class: "muted small nowrap" }, f.plural(server.chunks, "chunk"))),
    h("span", { class: "muted small" }, `${server.address} · host ${server.host_id.slice(0, 8) || "unknown"}`),
    server.disks.length > 1 && spaceBar(server.disks),
    server.disks.map((disk) => h("span", { class: "disk" },
      h("span", { class: "row between" },
        h("span", { class: "row" }, disk.state !== "ok" && dot(diskKind(disk.state)), h("span", { class: "mono" }, disk.path.split("/").slice(-2).join("/")),
          disk.state !== "ok" && disk.state),
        h("span", { class: "nowrap" }, `${f.bytes(disk.free_bytes)} free of ${f.bytes(disk.total_bytes)}`)),
      spaceBar([disk], { thin: true }))),
    server.disks.length === 0 && h("span", { class: "muted small" }, "no disks known yet"),
    server.disks.length > 1 && h("span", { class: "muted small" }, `${f.bytes(its.free)} free in all`));
}

export default {
  title: "Topology",
  view({ status }) {
    if (status.servers.length === 0) return [head("Topology"), empty("No chunkserver has joined yet")];
    return [
      head("Topology"),
      h("p", { class: "muted small" }, "Bars: chunks of Cairn in colour, other files on the same disk in grey."),
      grouped(status.servers, (server) => server.zone).map(([zone, members]) =>
        h("section", { class: "zone card", "data-key": zone },
          h("div", { class: "row between" }, h("h2", {}, zone ? `Zone ${zone}` : "No zone given", " ",
            h("span", { class: "muted" }, f.plural(members.length, "server"))),
            zone && whatIfButton(`Without zone ${zone}`, { zones: [zone] })),
          h("div", { class: "grid" }, grouped(members, (server) => server.rack).map(([rack, inRack]) =>
            h("div", { class: "rack", "data-key": rack },
              h("div", { class: "row between" }, h("h3", {}, rack ? `Rack ${rack}` : "No rack given"),
                rack && whatIfButton(`Without rack ${rack}`, { racks: [rack] })),
              inRack.map(node)))))),
    ];
  },
};
