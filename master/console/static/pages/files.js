// What the namespace holds: directories, and for a file its layout, copies, stamps, writer and policy.
import { get } from "../js/api.js";
import { h } from "../js/dom.js";
import * as f from "../js/format.js";
import { card, chunkTag, empty, facts, flushCard, head, memberTags, table } from "../js/parts.js";
import { crumbs, fileHref, pathForm, policyHref } from "../js/paths.js";
import { policyText } from "./policy.js";

const kPage = 200, kMostChunks = 64;
const state = { more: [], cursor: undefined, end: true, key: "" };

const join = (directory, name) => (directory === "/" ? `/${name}` : `${directory}/${name}`);
const query = (route) => (route.query.get("inode") ? { inode: route.query.get("inode") } : { path: `/${route.argument}` });

async function chunksOf(attr) {
  if (attr.type !== "REGULAR" || !f.n(attr.chunk_bytes)) return null;
  const total = Math.ceil(f.n(attr.size) / f.n(attr.chunk_bytes));
  const list = [];
  for (let index = 0; index < Math.min(total, kMostChunks); index++) {
    list.push(get("chunk", { inode: attr.inode, index }).catch((error) => {
      if (error.status === 404) return { index: String(index), hole: true };
      throw error;
    }));
  }
  return { total, list: await Promise.all(list) };
}

const kTypes = { REGULAR: "file", DIRECTORY: "directory", SYMLINK: "symbolic link", FIFO: "fifo", SOCKET: "socket", CHAR_DEVICE: "character device", BLOCK_DEVICE: "block device" };
const typeName = (attr) => kTypes[attr.type] || "unknown";
const time = (value) => f.dateTime(f.n(value.seconds) * 1000);

function about(browse) {
  const { attr } = browse;
  return card(typeName(attr).replace(/^./, (letter) => letter.toUpperCase()), `inode ${attr.inode}`, facts([
    ["Size", attr.type === "DIRECTORY" ? f.plural(attr.size, "entry", "entries") : `${f.bytes(attr.size)} (${attr.size} bytes)`],
    ["Takes", attr.type === "REGULAR" ? f.bytes(f.n(attr.blocks_512) * 512) : null],
    ["Target", browse.symlink_target && h("code", {}, browse.symlink_target)],
    ["Mode", h("code", {}, f.mode(attr))],
    ["Owner", `uid ${attr.uid}, gid ${attr.gid}`],
    ["Names", attr.type === "DIRECTORY" ? null : attr.nlink],
    ["Modified", time(attr.mtime)], ["Changed", time(attr.ctime)], ["Created", time(attr.btime)],
    ["Written by", f.n(browse.writer_session) ? h("a", { href: "#/sessions" }, `session ${browse.writer_session} (${browse.writer_client})`) : null],
    ["Last refusal", browse.last_refusal],
  ]));
}

const policy = (browse) => card("Policy", h("a", { href: policyHref(browse.path) }, "where from"), h("div", { class: "stack" },
  h("p", {}, policyText(browse.policy)),
  browse.policy_origins.length
    ? h("p", { class: "muted small" }, "Set at ", browse.policy_origins.map((origin, i) => [i ? ", " : "", h("a", { href: fileHref(origin.path, origin.inode) }, origin.path)]))
    : h("p", { class: "muted small" }, "The cluster's own: no directory above sets anything")));

function entries(browse, render) {
  const list = [...browse.entries, ...state.more];
  const end = state.more.length ? state.end : browse.end;
  const more = async () => {
    const last = list[list.length - 1];
    const page = await get("browse", { inode: browse.attr.inode, cursor: last.cursor, max: kPage });
    state.more = [...state.more, ...page.entries];
    state.end = page.end;
    render();
  };
  return flushCard("Entries", f.plural(browse.attr.size, "entry", "entries"), table(
    [{ title: "Name", text: true }, { title: "Size", num: true }, { title: "Mode", wide: true }, { title: "Owner", wide: true }, { title: "Modified", wide: true }],
    list.map(({ name, inode, attr }) => [
      h("a", { href: name.includes("\\") ? `#/files?inode=${inode}` : fileHref(join(browse.path, name), inode) }, attr.type === "DIRECTORY" ? `${name}/` : name),
      attr.type === "DIRECTORY" ? h("span", { class: "muted" }, f.plural(attr.size, "entry", "entries")) : f.bytes(attr.size),
      h("code", {}, f.mode(attr)), `${attr.uid}:${attr.gid}`, h("span", { class: "nowrap" }, time(attr.mtime)),
    ]), "This directory is empty"),
    !end && h("div", { class: "empty" }, h("button", { type: "button", onclick: more }, "More")));
}

function chunkTable({ total, list }) {
  return flushCard("Chunks", total > list.length ? `the first ${list.length} of ${total}` : f.plural(total, "chunk"), table(
    [{ title: "No.", num: true }, { title: "Chunk" }, { title: "State" }, { title: "Length", num: true, wide: true }, { title: "Stamp", wide: true }, { title: "Copies" }, { title: "Why", wide: true }],
    list.map((chunk) => (chunk.hole
      ? [chunk.index, h("span", { class: "muted" }, "hole"), "", "", "", "", ""]
      : [chunk.index, h("a", { href: `#/chunk/${chunk.chunk}` }, chunk.chunk), chunkTag(chunk), f.bytes(chunk.length), h("code", {}, f.stamp(chunk.sealed)), memberTags(chunk), chunk.reasons.join("; ")])),
    "An empty file has no chunks"));
}

export default {
  title: "Files",
  period: 10000,
  enter() { state.more = []; state.end = true; },
  async load(route) {
    const browse = await get("browse", { ...query(route), max: kPage });
    return { browse, chunks: await chunksOf(browse.attr) };
  },
  failed: ({ error, route }) => [
    head("Files", pathForm(`/${route.argument}`, fileHref)),
    h("p", { class: "note bad", role: "alert" }, error), h("p", {}, h("a", { href: "#/files" }, "Back to /")),
  ],
  view({ data, render }) {
    const { browse, chunks } = data;
    return [
      head("Files", pathForm(browse.path, fileHref)),
      crumbs(browse.path, (path) => fileHref(path)),
      h("div", { class: "grid two" }, about(browse), policy(browse)),
      browse.attr.type === "DIRECTORY" ? entries(browse, render) : chunks ? chunkTable(chunks) : empty("Nothing but its attributes is stored"),
    ];
  },
};
