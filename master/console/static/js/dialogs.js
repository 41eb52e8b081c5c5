// The dialog for the token, and the one that shows what a change would do before it is made.
import { forgetLogin, loggedIn, login } from "./api.js";
import { h, show } from "./dom.js";

const dialog = () => document.getElementById("dialog");

export function toast(text) {
  const element = document.getElementById("toast");
  element.textContent = text;
  element.hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { element.hidden = true; }, 6000);
}

function open(content) {
  const element = dialog();
  show(element, content);
  if (!element.open) element.showModal();
}
let shown = 0;  // which dialog is open: answers for an earlier one are dropped
const close = () => { shown++; dialog().close(); };

// Asks for the token; afterwards `then` runs.
export function askForToken(then) {
  if (dialog().open) return;
  shown++;
  const draw = (problem, busy) => open(h("form", {
    "data-key": "login",
    onsubmit: async (event) => {
      event.preventDefault();
      const token = event.target.elements.token.value.trim();
      draw("", true);
      try {
        await login(token);
        close();
        toast("Logged in. Changes are possible now.");
        then?.();
      } catch (error) {
        draw(error.message, false);
      }
    } },
    h("h2", {}, "Log in"),
    h("p", { class: "muted" }, "Changes need the administrator's token. It is in the file ", h("code", {}, "admin-token"),
      " in the master's data directory; only its owner can read it."),
    h("input", { name: "username", autocomplete: "username", value: "administrator", hidden: true }),  // for password managers
    h("label", { class: "field" }, "Token",
      h("input", { name: "token", type: "password", autocomplete: "current-password", required: true, autofocus: true })),
    h("p", { class: "problem", role: "alert" }, problem),
    h("div", { class: "actions" }, h("button", { type: "button", onclick: close }, "Cancel"),
      h("button", { class: "primary", disabled: busy }, "Log in"))));
  draw("", false);
}

// A change with its preview. options:
//   title, text          what it is
//   fields(state, again) inputs that change `state` and call again(); may be absent
//   preview(state)       promise of {content, refused}; absent: nothing is looked at first
//   apply(state)         promise of a sentence; absent: there is nothing to do but to look
//   label, danger        the button
export function confirmChange(options, state = {}) {
  const view = { preview: null, problem: "", busy: false, asked: 0 };
  const mine = ++shown;
  const current = () => mine === shown && (view.asked === 0 || dialog().open);
  const draw = () => current() && open(h("form", {
    "data-key": `change-${mine}`,
    onsubmit: (event) => { event.preventDefault(); if (options.apply) apply(); } },
    h("h2", {}, options.title),
    options.text && h("p", { class: "muted" }, options.text),
    options.fields?.(state, look),
    options.preview && h("div", { "data-preview": view.preview ? "shown" : "asked" },
                         view.preview ? view.preview.content : h("p", { class: "muted" }, "Looking what it would mean…")),
    view.problem && h("p", { class: "problem", role: "alert" }, view.problem),
    h("div", { class: "actions" }, h("button", { type: "button", onclick: close }, options.apply ? "Cancel" : "Close"),
      options.apply && h("button", { class: options.danger ? "danger" : "primary",
                    disabled: view.busy || (options.preview && (!view.preview || (view.preview.refused && !state.force))) },
        options.label))));

  async function look() {
    const number = ++view.asked;
    if (options.preview) {
      try {
        const preview = await options.preview(state);
        if (number !== view.asked) return;
        view.preview = preview;
        view.problem = "";
      } catch (error) {
        if (number !== view.asked) return;
        view.preview = { content: null, refused: true };
        view.problem = error.message;
      }
    }
    draw();
  }

  async function apply() {
    if (!loggedIn()) {
      close();
      return askForToken(() => confirmChange(options, state));
    }
    view.busy = true;
    draw();
    try {
      const outcome = await options.apply(state);
      close();
      toast(outcome);
    } catch (error) {
      view.busy = false;
      view.problem = error.message;
      if (error.status === 401) {
        forgetLogin();
        close();
        return askForToken(() => confirmChange(options, state));
      }
      draw();
    }
  }

  draw();
  look();
}
