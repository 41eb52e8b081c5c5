// How files below a directory are stored, and which directory says so.
import { get } from "../js/api.js";
import { h } from "../js/dom.js";
import * as f from "../js/format.js";
import { flushCard, head, table } from "../js/parts.js";
import { crumbs, fileHref, pathForm, policyHref } from "../js/paths.js";

const kFields = [
  ["replicas", "Copies", String],
  ["write_quorum", "Copies that confirm a write", String],
  ["failure_domain", "Copies are on different", (value) => `${value}s`],
  ["storage_class", "Storage class", String],
  ["chunk_bytes", "Chunk size of new files", f.bytes],
  ["trash_seconds", "Deleted files are kept", (value) => (f.n(value) ? f.about(value) : "not at all")],
];
const isSet = (policy, field) => policy[field] !== undefined && policy[field] !== null && (field === "trash_seconds" || (policy[field] !== "" && f.n(policy[field]) !== 0) || (typeof policy[field] === "string" && Number.isNaN(Number(policy[field]))));

export function policyText(policy) {
  const parts = [`${policy.replicas} copies`, `${policy.write_quorum} confirm a write`, `on different ${policy.failure_domain || "server"}s`, `chunks of ${f.bytes(policy.chunk_bytes)}`];
  if (policy.storage_class) parts.push(`class ${policy.storage_class}`);
  parts.push(f.n(policy.trash_seconds) ? `trash ${f.about(policy.trash_seconds)}` : "no trash");
  return parts.join(", ");
}

export default {
  title: "Policy",
  period: 10000,
  load: (route) => get("browse", { path: `/${route.argument}` }),
  failed: ({ error, route }) => [
    head("Policy", pathForm(`/${route.argument}`, policyHref)),
    h("p", { class: "note bad", role: "alert" }, error), h("p", {}, h("a", { href: "#/policy" }, "Policy of /")),
  ],
  view({ data: browse }) {
    const origin = (field) => browse.policy_origins.find((one) => isSet(one.own, field));
    return [
      head("Policy", pathForm(browse.path, policyHref)),
      crumbs(browse.path, policyHref),
      flushCard("In effect here", h("a", { href: fileHref(browse.path, browse.attr.inode) }, "in the files"), table(
        [{ title: "What" }, { title: "Value" }, { title: "Where it comes from", text: true }],
        kFields.map(([field, name, format]) => {
          const from = origin(field);
          const value = browse.policy[field];
          return [name, h("b", {}, isSet(browse.policy, field) || field === "trash_seconds" ? format(value) : h("span", { class: "muted" }, "any")),
            from ? (from.path === browse.path ? "set here" : h("span", {}, "inherited from ", h("a", { href: policyHref(from.path) }, from.path))) : h("span", { class: "muted" }, "built in")];
        }))),
      h("p", { class: "muted small" }, "To change it: ", h("code", {}, `cairn policy set ${browse.path} replicas=3,write_quorum=2`), ". Existing files follow by themselves."),
    ];
  },
};
