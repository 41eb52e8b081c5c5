// Before anything is drawn: the theme that was chosen. None: what the system says.
"use strict";
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem("cairn-theme"); } catch { /* storage is switched off */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  window.cairnTheme = {
    dark: () => (document.documentElement.dataset.theme ||
                 (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark",
    toggle() {
      const next = this.dark() ? "light" : "dark";
      document.documentElement.dataset.theme = next;
      try { localStorage.setItem("cairn-theme", next); } catch { /* for this visit only */ }
    },
  };
})();
