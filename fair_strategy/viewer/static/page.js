// Keys of the review page, and what this browser remembers: the reader's name and case.
(() => {
  "use strict";
  const MEMORY = "fair-strategy-review";
  const trame = () => window.trame;

  const keyOf = (event) => {
    const name = event.key === " " ? "Space" : event.key;
    if (event.ctrlKey || event.metaKey) return `Ctrl+${name.length === 1 ? name.toLowerCase() : name}`;
    if (event.shiftKey && /^[A-Z]$/.test(name)) return `Shift+${name}`;
    return name.length === 1 ? name.toLowerCase() : name;
  };

  // A control that has the focus keeps the keys that it needs itself.
  const isForControl = (event, key) => {
    const target = event.target;
    if (!(target instanceof Element)) return false;
    // The login has gone by now; its field may keep the focus for a moment.
    if (target.closest(".fr-login")) return false;
    // A list that stands open: arrows, Enter and Escape are what it is used by.
    if (target.closest("[role=listbox], [role=option]")) return !key.startsWith("Ctrl+");
    if (target.closest("input:not([type=range]):not([type=checkbox]), textarea, [contenteditable]"))
      return !key.startsWith("Ctrl+Enter");
    if (target.closest("[role=slider]")) return key.startsWith("Arrow") || key.startsWith("Page");
    if (target.closest("button, a, [role=button], [role=checkbox], [role=radio], input"))
      return key === "Space" || key === "Enter";
    return false;
  };

  const onKey = (event) => {
    if (event.altKey || !trame()) return;
    const state = trame().state;
    if (!state || state.get("screen") !== "read" || document.querySelector(".v-dialog.v-overlay--active")) return;
    const key = keyOf(event);
    if (isForControl(event, key)) return;
    const found = (state.get("shortcuts") || []).find((row) => row.key === key);
    if (!found) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    // What waits for a submission is done afterwards: it would be drawn into the next scan.
    if (found.draws && state.get("busy")) return;
    if (event.repeat && !/^(Arrow|Page|[[\],.+-])/.test(key)) return;
    trame().trigger("key", [found.action, state.get("case_name")]);
  };
  // Before the views: they would take keys for themselves.
  window.addEventListener("keydown", onKey, true);

  const recall = () => {
    try { return JSON.parse(localStorage.getItem(MEMORY)) || {}; } catch { return {}; }
  };
  const remember = (what) => localStorage.setItem(MEMORY, JSON.stringify(what));

  const connected = () => {
    const state = trame().state;
    if (state.get("screen") === "login") {
      const { name = "", case: caseId = "" } = recall();
      state.update({ name: state.get("name") || name, remembered: caseId });
    }
    state.addListener(({ type, keys }) => {
      if (type !== "dirty-state" || !keys.includes("memory")) return;
      const memory = state.get("memory");
      if (memory) remember(memory);
    });
  };
  const wait = () => (trame()?.state?.get("shortcuts") ? connected() : setTimeout(wait, 50));
  wait();
})();
