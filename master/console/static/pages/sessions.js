// Clients: their sessions, leases and locks.
import { get } from "../js/api.js";
import { h } from "../js/dom.js";
import * as f from "../js/format.js";
import { flushCard, head, table, tag } from "../js/parts.js";

const kMostInodes = 12;
let before = null;

// Requests per second since the look before this one.
function rates(sessions) {
  const now = { at: Date.now(), requests: new Map(sessions.map((one) => [one.session, f.n(one.requests)])) };
  const rate = (id) => {
    const old = before?.requests.get(id);
    const seconds = before ? (now.at - before.at) / 1000 : 0;
    return old === undefined || seconds <= 0 ? null : Math.max(0, now.requests.get(id) - old) / seconds;
  };
  const result = new Map(sessions.map((one) => [one.session, rate(one.session)]));
  before = now;
  return result;
}

const inodeLinks = (inodes) => h("span", {}, inodes.slice(0, kMostInodes).map((inode, i) => [i ? ", " : "", h("a", { href: `#/files?inode=${inode}` }, inode)]),
  inodes.length > kMostInodes && h("span", { class: "muted" }, ` and ${inodes.length - kMostInodes} more`));

const range = (lock) => (lock.to_end ? (f.n(lock.start) === 0 ? "whole file" : `${lock.start} to the end`) : `${lock.start}–${lock.end}`);

export default {
  title: "Sessions",
  enter() { before = null; },
  async load() {
    const [sessions, locks] = await Promise.all([get("sessions"), get("locks")]);
    return { sessions: sessions.sessions, rates: rates(sessions.sessions), locks: locks.locks, notes: locks.notes };
  },
  view({ data }) {
    return [
      head("Sessions"),
      flushCard("Clients", f.plural(data.sessions.length, "session"), table(
        [{ title: "Session" }, { title: "Client", text: true }, { title: "Renewed", num: true }, { title: "Requests", num: true }, { title: "Read leases", num: true },
         { title: "Write leases", num: true }, { title: "Deleted, open", num: true, wide: true }, { title: "Writes inodes", text: true }],
        data.sessions.map((one) => {
          const rate = data.rates.get(one.session);
          return [one.session, one.client_name, `${f.about(f.n(one.last_renewal_ms) / 1000)} ago`, rate === null ? "–" : f.perSecond(rate),
            one.read_leases, one.write_leases, one.open_orphans, inodeLinks(one.write_lease_inodes)];
        }), "No client is connected")),
      flushCard("File locks", f.plural(data.locks.length, "lock"), table(
        [{ title: "File", text: true }, { title: "Kind" }, { title: "State" }, { title: "Bytes" }, { title: "Session", num: true }, { title: "Client", text: true, wide: true }, { title: "Process", num: true }],
        data.locks.map((lock) => [h("a", { href: `#/files?inode=${lock.inode}` }, lock.path || `inode ${lock.inode}`), `${lock.kind}, ${lock.type}`,
          lock.waiting ? tag("warn", "waits") : tag("ok", "held"), range(lock), lock.session, lock.client_name, lock.pid]),
        "No file is locked"),
        data.notes.map((note) => h("p", { class: "empty" }, note))),
    ];
  },
};
