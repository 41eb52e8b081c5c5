// How evenly full the servers are: the state of balancing, a plan before anything moves, and its controls.
import { post } from "../js/api.js";
import { confirmChange, toast } from "../js/dialogs.js";
import { h } from "../js/dom.js";
import * as f from "../js/format.js";
import { bar, card, empty, facts, flushCard, head, serverLink, table, tag } from "../js/parts.js";

const state = { threshold: "1", rate: "", plan: null, problem: "" };

function tuning() {
  const request = { threshold_percent: Number(state.threshold) };
  if (!(request.threshold_percent >= 0 && request.threshold_percent <= 100)) throw new Error("The threshold is 0 to 100 percent");
  if (state.rate.trim()) {
    const rate = f.parseBytes(state.rate);
    if (!(rate >= 0)) throw new Error("A rate is a size per second, for example 64MiB");
    request.bytes_per_second = String(rate);
  }
  return request;
}

// As people write it, if that says it exactly.
const rateText = (value) => (f.parseBytes(f.bytes(value)) === f.n(value) ? f.bytes(value) : String(value));

async function preview(render) {
  try {
    state.plan = (await post("rebalance", { action: "REBALANCE_PLAN", ...tuning() })).plan;
    state.problem = "";
  } catch (error) {
    state.problem = error.message;
  }
  render();
}

const planText = (plan) => (f.n(plan.moves) === 0 ? "Nothing to move: every server is within the threshold."
  : `${f.plural(plan.moves, "move")} of ${f.bytes(plan.bytes)}${f.n(plan.eta_seconds) ? `, about ${f.about(plan.eta_seconds)}` : ""}; every chunk keeps at least ${plan.fewest_copies} copies all the time.`);

function planTable(plan) {
  const share = (used, server) => (f.n(server.capacity_bytes) ? f.n(used) / f.n(server.capacity_bytes) : 0);
  const cell = (used, server) => h("span", { class: "row" }, bar(share(used, server)), h("span", { class: "nowrap" }, f.percent(f.n(used), f.n(server.capacity_bytes), 2)));
  return h("div", { class: "plan" }, table(
    [{ title: "Server" }, { title: "Capacity", num: true, wide: true }, { title: "Used now" }, { title: "Used after" }, { title: "Moves out", num: true }, { title: "Moves in", num: true }],
    plan.servers.map((server) => [serverLink(server.server), f.bytes(server.capacity_bytes), cell(server.used_bytes, server), cell(server.used_after, server), server.moves_out, server.moves_in]),
    "No servers to balance"));
}

function change(title, text, request, label, refresh, outcome) {
  confirmChange({
    title, text, label,
    apply: async () => { await post("rebalance", request); refresh(); return outcome; },
  });
}

function applyPlan(refresh) {
  let request;
  try { request = tuning(); } catch (error) { return toast(error.message); }
  confirmChange({
    title: "Balance the servers",
    text: "What is applied is the goal; the moves are found from what is there then. A copy is removed only after the new one is verified and recorded.",
    label: "Apply",
    preview: async () => {
      const { plan } = await post("rebalance", { action: "REBALANCE_PLAN", ...request });
      return { content: [h("p", {}, planText(plan)), planTable(plan)], refused: f.n(plan.moves) === 0 };
    },
    apply: async () => {
      await post("rebalance", { action: "REBALANCE_APPLY", ...request });
      state.plan = null;
      refresh();
      return "The plan is applied; its progress is on this page.";
    },
  });
}

function settings(balance, refresh) {
  confirmChange({
    title: "Settings of balancing", label: "Save",
    fields: (its) => [
      h("label", { class: "field" }, "Rate of all moves together, per second (64MiB; 0: no limit)",
        h("input", { name: "rate", value: its.rate, oninput: (event) => { its.rate = event.target.value; } })),
      h("label", { class: "field" }, "Only within this window (22:00-06:00; empty: always)",
        h("input", { name: "window", value: its.window, oninput: (event) => { its.window = event.target.value; } })),
      h("label", { class: "check" }, h("input", { type: "checkbox", name: "automatic", checked: its.automatic, onchange: (event) => { its.automatic = event.target.checked; } }),
        `Balance by itself when the spread exceeds ${balance.automatic_threshold_percent} %`),
    ],
    apply: async (its) => {
      const rate = f.parseBytes(its.rate);
      if (!(rate >= 0)) throw new Error("A rate is a size per second, for example 64MiB");
      await post("rebalance", { action: "REBALANCE_SET", bytes_per_second: String(rate), window: its.window.trim(), automatic: its.automatic });
      refresh();
      return "Saved.";
    },
  }, { rate: rateText(balance.bytes_per_second), window: balance.window, automatic: balance.automatic });
}

export default {
  title: "Rebalance",
  view({ status, refresh, render }) {
    const balance = status.rebalance;
    const planned = f.n(balance.planned_bytes), moved = f.n(balance.moved_bytes);
    const running = balance.state === "running", paused = balance.state === "paused";
    return [
      head("Rebalance",
        paused
          ? h("button", { type: "button", "data-action": "resume", onclick: () => change("Resume balancing", "Moves go on, also the automatic ones.", { action: "REBALANCE_RESUME" }, "Resume", refresh, "Balancing goes on.") }, "Resume")
          : h("button", { type: "button", "data-action": "pause", onclick: () => change("Pause balancing", "Moves under way are finished; no further ones begin, also no automatic ones.", { action: "REBALANCE_PAUSE" }, "Pause", refresh, "Balancing pauses.") }, "Pause"),
        (running || paused) && h("button", { type: "button", "data-action": "cancel", onclick: () => change("Cancel the plan", "Moves under way are finished, the rest is dropped.", { action: "REBALANCE_CANCEL" }, "Cancel the plan", refresh, "The plan is cancelled.") }, "Cancel plan"),
        h("button", { type: "button", "data-action": "settings", onclick: () => settings(balance, refresh) }, "Settings…")),
      h("div", { class: "grid two" },
        card("State", null, h("div", { class: "stack" },
          h("p", { class: "row" }, tag(running ? "info" : paused ? "warn" : "ok", balance.state), h("span", { class: "muted" }, `spread ${balance.spread_percent.toFixed(2)} % between the fullest and the emptiest server`)),
          planned > 0 && balance.state !== "idle" && bar(moved / planned, { kind: "", label: f.percent(moved, planned) }),
          facts([
            ["Plan", balance.state === "idle" ? null : `${balance.by_hand ? "by hand" : "automatic"}, ${f.bytes(moved)}${planned ? ` of ${f.bytes(planned)}` : ""} moved, ${f.plural(balance.moves_running, "move")} under way`],
            ["Last plan", balance.state === "idle" && f.n(balance.number) ? `${f.plural(balance.moved_chunks, "chunk")}, ${f.bytes(moved)} moved` : null],
            ["Scope", balance.scope || (balance.state === "idle" ? null : "all servers and files")],
            ["Rate", `${f.n(balance.bytes_per_second) ? f.rate(balance.bytes_per_second) : "no limit"}${running ? `, now ${f.rate(balance.effective_bytes_per_second)}` : ""}`],
            ["Yields", balance.yielding],
            ["Automatic", balance.automatic ? `beyond ${balance.automatic_threshold_percent} % of spread` : "off"],
            ["Window", balance.window ? `${balance.window}${balance.in_window ? "" : " (not now)"}` : "always"],
          ]))),
        card("Plan", "changes nothing", h("form", { class: "stack", onsubmit: (event) => { event.preventDefault(); preview(render); } },
          h("div", { class: "actions" },
            h("label", { class: "field" }, "Threshold in percent", h("input", { name: "threshold", inputmode: "decimal", size: 8, value: state.threshold, oninput: (event) => { state.threshold = event.target.value; } })),
            h("label", { class: "field" }, "Rate per second", h("input", { name: "rate", size: 10, placeholder: "as set", value: state.rate, oninput: (event) => { state.rate = event.target.value; } })),
            h("button", { "data-action": "plan" }, "Preview")),
          h("p", { class: "muted small" }, "Every server ends within so many percent of its capacity of the mean."),
          state.problem && h("p", { class: "note bad" }, state.problem)))),
      state.plan
        ? flushCard("Planned", planText(state.plan), planTable(state.plan),
            state.plan.limited_by && h("p", { class: "empty" }, `It gets no closer: ${state.plan.limited_by}`),
            f.n(state.plan.moves) > 0 && h("div", { class: "empty" }, h("button", { class: "primary", type: "button", "data-action": "apply", onclick: () => applyPlan(refresh) }, "Apply this plan…")))
        : empty("A preview shows each server before and after, and how long it takes"),
    ];
  },
};
