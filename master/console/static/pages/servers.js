// All chunkservers in a table.
import { h } from "../js/dom.js";
import * as f from "../js/format.js";
import { flushCard, head, modeText, place, serverLink, space, spaceBar, stateTag, table, tag } from "../js/parts.js";

const state = { removed: false };

function note(server) {
  const notes = [];
  if (server.mode_reason) notes.push(server.mode_reason);
  if (server.downs_last_hour) notes.push(`${server.downs_last_hour} × down within the hour`);
  for (const disk of server.disks) if (disk.state !== "ok") notes.push(`disk ${disk.path} is ${disk.state}`);
  return notes.join("; ");
}

export default {
  title: "Servers",
  view({ status, render }) {
    const all = [...status.servers, ...(state.removed ? status.removed_servers : [])];
    const rows = all.map((server) => {
      const its = space(server.disks);
      return [
        serverLink(server.server),
        server.mode === "removed" ? tag("idle", "removed")
          : h("span", { class: "row" }, stateTag(server), server.mode !== "in service" && tag("warn", modeText(server))),
        h("code", {}, server.address), place(server), server.chunks,
        spaceBar(server.disks), f.bytes(its.used), f.bytes(its.free), `${(server.load / 10).toFixed(1)} %`,
        h("span", { class: "muted" }, note(server)),
      ];
    });
    return [
      head("Servers", status.removed_servers.length > 0 &&
        h("label", { class: "check" }, h("input", { type: "checkbox", onchange: (event) => { state.removed = event.target.checked; render(); } }), "Also removed ones")),
      flushCard(null, null, table([
        { title: "Server" }, { title: "State" }, { title: "Address", wide: true }, { title: "Zone / rack", wide: true },
        { title: "Chunks", num: true, wide: true }, { title: "Disks" }, { title: "Used", num: true, wide: true }, { title: "Free", num: true },
        { title: "Load", num: true, wide: true }, { title: "Note", wide: true },
      ], rows, "No chunkserver has joined yet")),
    ];
  },
};
