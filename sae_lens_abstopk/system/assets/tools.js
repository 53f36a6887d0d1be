// The buttons of the bar, the theme, the help and the keys.
"use strict";

// Cleared first: screen readers do not read a region that does not change.
function say(text) {
  const status = document.getElementById("status");
  status.textContent = "";
  setTimeout(() => { status.textContent = text; }, 50);
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { class: "unseen" }); // pages on disk may have no clipboard
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.dataset.name ??= button.textContent;
  button.textContent = "Copied";
  say("Copied");
  setTimeout(() => { button.textContent = button.dataset.name; }, 1200);
}

// Storage may be off; a choice then lasts until the page is closed.
function stored(name) { try { return localStorage.getItem(name); } catch { return null; } }
function store(name, value) { try { localStorage.setItem(name, value); } catch { /* as above */ } }

let keysOn = true;
function setKeys(on) {
  keysOn = on;
  document.getElementById("keys").textContent = `Keys: ${on ? "on" : "off"}`;
  store("keys", on ? "on" : "off");
}

const THEMES = ["system", "light", "dark"];
function setTheme(name) {
  document.documentElement.style.colorScheme = name === "system" ? "light dark" : name;
  document.getElementById("theme").textContent = `Theme: ${name}`;
  document.getElementById("theme").dataset.theme = name;
  store("theme", name);
  dispatchEvent(new Event("themechange"));
}

// What each key does outside of fields, while keys are on.
const onKey = {
  "?": () => document.getElementById("help").showModal(),
  ArrowLeft: (event) => event.shiftKey || document.querySelector("a[rel=prev]")?.click(),
  ArrowRight: (event) => event.shiftKey || document.querySelector("a[rel=next]")?.click(),
};
addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, dialog, pre, .wide-table"); // the last two scroll
  if (typing || !keysOn || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (Object.hasOwn(onKey, event.key)) onKey[event.key](event);
});

addEventListener("DOMContentLoaded", () => {
  const button = (id, pressed) => document.getElementById(id).addEventListener("click", pressed);
  const theme = stored("theme");
  setTheme(THEMES.includes(theme) ? theme : "system");
  setKeys(stored("keys") !== "off");
  button("keys", () => setKeys(!keysOn));
  button("theme", ({ target }) => setTheme(THEMES[(THEMES.indexOf(target.dataset.theme) + 1) % THEMES.length]));
  button("link", ({ target }) => copy(location.href, target));
  button("help-button", onKey["?"]);
  // its target is not an address of a page
  document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("themechange")));
});
