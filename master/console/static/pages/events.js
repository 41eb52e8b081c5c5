// The durable log of what the cluster did and why: newest first, filtered here, older ones in pages.
import { get } from "../js/api.js";
import { h } from "../js/dom.js";
import * as f from "../js/format.js";
import { dot, flushCard, head, serverLink, severityKind, table } from "../js/parts.js";

const kLog = 10000, kPage = 100;
const state = { events: [], next: 0, severity: "", kind: "", text: "", page: 0 };

function matches(event) {
  return (!state.severity || event.severity === state.severity) && (!state.kind || event.kind === state.kind) &&
         (!state.text || `${event.text} ${event.kind} ${event.operator}`.toLowerCase().includes(state.text.toLowerCase()));
}

const select = (label, name, values, render) => h("label", { class: "field" }, label,
  h("select", { name, onchange: (event) => { state[name] = event.target.value; state.page = 0; render(); } },
    h("option", { value: "" }, "all"), [...new Set(values)].sort().map((value) => h("option", { value, selected: state[name] === value }, value))));

function about(event) {
  return h("span", {}, event.text,
    f.n(event.chunk) ? [" ", h("a", { href: `#/chunk/${event.chunk}` }, `chunk ${event.chunk}`)] : null,
    f.n(event.inode) ? [" ", h("a", { href: `#/files?inode=${event.inode}` }, `inode ${event.inode}`)] : null,
    event.operator ? h("span", { class: "muted" }, ` by ${event.operator}`) : null);
}

export default {
  title: "Events",
  async load() {
    const answer = await get("events", { after: state.next, max: kLog });
    // A log that begins anew (another cluster behind the same address) is taken as a whole.
    const newer = answer.events.filter((event) => f.n(event.number) > state.next);
    state.events = [...newer.reverse(), ...state.events].slice(0, kLog);
    state.next = Math.max(state.next, f.n(answer.next));
    return {};
  },
  view({ render }) {
    const found = state.events.filter(matches);
    const pages = Math.max(1, Math.ceil(found.length / kPage));
    state.page = Math.min(state.page, pages - 1);
    const shown = found.slice(state.page * kPage, (state.page + 1) * kPage);
    const turn = (by) => () => { state.page += by; render(); scrollTo(0, 0); };
    return [
      head("Events"),
      h("div", { class: "actions filters" },
        select("Severity", "severity", state.events.map((event) => event.severity), render),
        select("Kind", "kind", state.events.map((event) => event.kind), render),
        h("label", { class: "field" }, "Text", h("input", { name: "text", type: "search", value: state.text, oninput: (event) => { state.text = event.target.value; state.page = 0; render(); } }))),
      flushCard(null, null, table(
        [{ title: "Time" }, { title: "" }, { title: "Kind", wide: true }, { title: "Server", wide: true }, { title: "What", text: true }],
        shown.map((event) => [h("span", { class: "nowrap" }, h("span", { class: "wide" }, `${f.dateTime(event.unix_ms).slice(0, 10)} `), f.clock(event.unix_ms)),
          h("span", { class: "row nowrap" }, dot(severityKind(event.severity)), h("span", { class: "wide" }, event.severity)),
          h("code", {}, event.kind), event.server ? serverLink(event.server) : "", about(event)]),
        state.events.length ? "No event matches" : "Nothing has happened yet")),
      pages > 1 && h("div", { class: "row between" },
        h("button", { type: "button", disabled: state.page === 0, onclick: turn(-1) }, "Newer"),
        h("span", { class: "muted" }, `page ${state.page + 1} of ${pages}, ${f.plural(found.length, "event")}`),
        h("button", { type: "button", disabled: state.page + 1 >= pages, onclick: turn(1) }, "Older")),
    ];
  },
};
