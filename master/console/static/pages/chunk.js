// One chunk: what the master knows, what each copy says now, and why it is not yet healthy.
import { get } from "../js/api.js";
import { h } from "../js/dom.js";
import * as f from "../js/format.js";
import { card, chunkTag, empty, facts, flushCard, head, memberKind, serverLink, table, tag } from "../js/parts.js";
import { fileHref } from "../js/paths.js";

function where(argument) {
  const text = argument.trim();
  return /^0x[0-9a-f]+$/i.test(text) ? BigInt(text).toString() : text;
}

export default {
  title: (route) => `Chunk ${route.argument}`,
  load: (route) => get("chunk", { chunk: where(route.argument) }),
  failed: ({ error, route }) => [
    head(`Chunk ${route.argument}`), h("p", { class: "note bad", role: "alert" }, error), h("p", {}, h("a", { href: "#/files" }, "Files")),
  ],
  view({ data: chunk }) {
    return [
      head([`Chunk ${chunk.chunk} `, chunkTag(chunk)]),
      h("div", { class: "grid two" },
        card("What the master knows", null, facts([
          ["File", chunk.path ? h("a", { href: fileHref(chunk.path, chunk.inode) }, chunk.path) : `inode ${chunk.inode}`],
          ["Number", `${chunk.index} (the file has ${f.plural(chunk.chunks_of_inode, "chunk")})`],
          ["Length", `${f.bytes(chunk.length)} (${chunk.length} bytes)`],
          ["Policy", `${chunk.replicas} copies, ${chunk.write_quorum} confirm a write`],
          ["Epoch", chunk.epoch],
          ["Sealed", h("code", {}, f.stamp(chunk.sealed))], ["Durable", h("code", {}, f.stamp(chunk.durable))], ["Base", h("code", {}, f.stamp(chunk.base))],
          ["Writer", f.n(chunk.writer_session) ? h("a", { href: "#/sessions" }, `session ${chunk.writer_session}`) : null],
        ])),
        card("What it waits for", null, chunk.reasons.length || chunk.next_attempt
          ? h("div", { class: "stack" }, chunk.reasons.map((reason) => h("p", { class: "note warn" }, reason)), chunk.next_attempt && h("p", {}, chunk.next_attempt))
          : h("p", { class: "muted" }, "Nothing: it is as its policy asks for."))),
      flushCard("Copies", "as the servers say now", table(
        [{ title: "Server" }, { title: "State" }, { title: "Accepted" }, { title: "Durable", wide: true }, { title: "Promised", num: true, wide: true }, { title: "Length", num: true }, { title: "Detail", text: true }],
        chunk.members.map((member) => [serverLink(member.server), tag(memberKind(member.state), member.state), h("code", {}, f.stamp(member.accepted)),
          h("code", {}, f.stamp(member.durable)), member.promised, f.bytes(member.length), member.detail]),
        "No server holds a copy")),
      flushCard("History", "since the master started", chunk.history.length
        ? h("div", { class: "card-body" }, h("ul", { class: "list history" }, [...chunk.history].reverse().map((line) => h("li", {}, line))))
        : empty("Nothing happened to it")),
    ];
  },
};
