// Paths of the namespace: links to them, the way up, and the field to type one.
import { h } from "./dom.js";

const below = (path) => (path === "/" ? "" : path.split("/").map(encodeURIComponent).join("/"));

// A name with bytes that are not UTF-8 (printed with \ooo) is found by its inode only.
export const fileHref = (path, inode) => (inode && path.includes("\\") ? `#/files?inode=${inode}` : `#/files${below(path)}`);
export const policyHref = (path) => `#/policy${below(path)}`;

export function crumbs(path, href) {
  const parts = path.split("/").filter(Boolean);
  return h("nav", { class: "crumbs", "aria-label": "Path" }, h("a", { href: href("/") }, "/"),
    parts.map((part, i) => [i ? h("span", { class: "muted" }, "/") : null,
      i + 1 < parts.length ? h("a", { href: href(`/${parts.slice(0, i + 1).join("/")}`) }, part) : h("b", {}, part)]));
}

export function pathForm(path, href) {
  return h("form", { class: "path-form", onsubmit: (event) => {
    event.preventDefault();
    location.hash = href(`/${event.target.elements.path.value.trim().replace(/^\/+|\/+$/g, "")}`);
  } }, h("input", { name: "path", "aria-label": "Path", value: path, spellcheck: "false", autocomplete: "off", "data-key": path }), h("button", {}, "Go"));
}
