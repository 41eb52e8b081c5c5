// Elements without markup in strings (nothing that comes from the cluster is ever parsed as HTML), and
// putting a new view in the place of an old one without losing focus, scroll positions or what is typed.

const kSvg = "http://www.w3.org/2000/svg";

function make(element, props, children) {
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) {
      element[name] = value;
      (element.handlers ||= new Set()).add(name);
    } else if (name === "style") {
      for (const [key, part] of Object.entries(value)) element.style.setProperty(key, part);
    } else if (name === "class") {
      element.setAttribute("class", value);
    } else {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false || child === "") continue;
    element.append(child);
  }
}

// h("p", {class: "muted"}, "text", [more]) and the same for SVG.
export function h(tag, props, ...children) {
  return make(document.createElement(tag), props, children);
}
export function s(tag, props, ...children) {
  return make(document.createElementNS(kSvg, tag), props, children);
}

function patchAttributes(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (name !== "style" && name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (name !== "style" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (old.style.cssText !== fresh.style.cssText) old.style.cssText = fresh.style.cssText;
  for (const name of new Set([...(old.handlers || []), ...(fresh.handlers || [])])) old[name] = fresh[name];
  old.handlers = fresh.handlers;
}

function patch(old, fresh) {
  // A field is only ever the same field: what was typed into another one must not show in it.
  const same = old.nodeType === fresh.nodeType && old.nodeName === fresh.nodeName &&
      (old.nodeType !== Node.ELEMENT_NODE || ["data-key", "name", "type"].every((key) => old.getAttribute(key) === fresh.getAttribute(key)));
  if (!same) return old.replaceWith(fresh);
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  patchAttributes(old, fresh);
  patchChildren(old, [...fresh.childNodes]);
}

function patchChildren(old, fresh) {
  const before = [...old.childNodes];
  fresh.forEach((node, i) => (i < before.length ? patch(before[i], node) : old.append(node)));
  before.slice(fresh.length).forEach((node) => node.remove());
}

// Makes the children of `element` look like `children`.
export function show(element, ...children) {
  const holder = document.createElement("div");
  append(holder, children);
  patchChildren(element, [...holder.childNodes]);
}
