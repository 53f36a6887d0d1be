// A list that is searched and sorted, pages of its items, and keys for both. The address says what is shown.
"use strict";

const state = {}; // of the search, the order and other choices
let defaults = {}, choices = {}, addressOf = null; // set by the page
let list = [], opened = null, focusSearch = false;

// What the list opens with; the choices by key; and the address of an item's page.
function setUpList(first, among, address) {
  defaults = first;
  choices = among;
  addressOf = address;
  Object.assign(state, first);
}

function listAddress() {
  const changed = Object.entries(state).filter(([key, value]) => value !== defaults[key]);
  return changed.length ? `#?${new URLSearchParams(changed)}` : "#";
}
function readListAddress() {
  Object.assign(state, defaults);
  for (const [key, value] of new URLSearchParams(location.hash.replace(/^#\??/, ""))) {
    if (key === "q" || Object.hasOwn(choices[key] ?? {}, value)) state[key] = value;
  }
}
function keepListAddress() {
  try { history.replaceState(null, "", listAddress()); } catch { /* Safari allows a hundred in 30 s */ }
}
// Once the list is drawn: into the search if the key asked for it, else to the item that was open.
function focusList() {
  if (focusSearch) document.getElementById("search").focus();
  else if (opened) document.querySelector(`.axes a[href="${addressOf(opened)}"]`)?.focus();
  focusSearch = false;
}

const choice = (label, key, update) => h("label", {}, `${label} `,
  h("select", { name: key, onchange: (event) => { state[key] = event.target.value; update(); } },
    Object.entries(choices[key]).map(([value, { name }]) =>
      h("option", { value, selected: value === state[key] }, name))));
const searchField = (label, update) => h("input", {
  id: "search", type: "search", value: state.q, placeholder: "Search words", autocomplete: "off", "aria-label": label,
  oninput: (event) => { state.q = event.target.value; update(); },
  onkeydown: (event) => {
    if (event.key === "Enter" && !event.isComposing && list.length) location.hash = addressOf(list[0]);
  },
});
const foundText = (all, items, item) => (list.length === 0 ? `No ${item} matches; shorten the search.`
  : `${list.length === all.length ? "" : `${list.length} of `}${all.length} ${items}`);
// A click beside the link of a row opens it too.
const opensItem = (item) => ({ target }) => {
  if (!target.closest("a") && getSelection().isCollapsed) location.hash = addressOf(item);
};

// Links to the items before and after this one, and to the list.
function steps(item, all) {
  const at = list.indexOf(item);
  const to = (target, rel, text, key) => (target
    ? h("a", { class: "step", rel, href: addressOf(target), "aria-keyshortcuts": key }, text)
    : h("span", { class: "step off" }, text));
  return h("div", { class: "steps" },
    to(list[at - 1], "prev", "← previous", "k"), to(list[at + 1], "next", "next →", "j"),
    h("a", { class: "step", id: "up", href: listAddress(), "aria-keyshortcuts": "u" }, all));
}
function showPage(element, title) {
  main.replaceChildren(element);
  document.title = title;
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
}

// In the list, the item after the one in focus; on its page, the next one.
function step(by) {
  const links = [...document.querySelectorAll(".axes a")].filter((link) => !link.closest("details:not([open])"));
  if (!links.length) return document.querySelector(by > 0 ? "a[rel=next]" : "a[rel=prev]")?.click();
  const at = links.indexOf(document.activeElement);
  links[at < 0 ? 0 : Math.max(0, Math.min(links.length - 1, at + by))].focus();
}
Object.assign(onKey, {
  j: () => step(1),
  k: () => step(-1),
  u: () => document.getElementById("up")?.click(),
  "/": (event) => {
    event.preventDefault();
    const search = document.getElementById("search");
    if (search) return search.focus();
    focusSearch = true;
    location.hash = listAddress();
  },
});
