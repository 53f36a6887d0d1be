// The frame of the explorer: data files and addresses.
"use strict";

const UNIT = meta.unit, OF_ROWS = UNIT === "rows"; // tokens of a text, or rows of vectors
const SHARDS_HELD = 16; // others are loaded again on demand

const explorer = {
  data: new Map(),
  waiting: new Map(),
  shards: new Set(), // least recently used first
  take(key, value) { explorer.data.set(key, value); },
  // A page on disk may load scripts but not JSON.
  load(key) {
    if (explorer.data.has(key)) return Promise.resolve(explorer.data.get(key));
    if (!explorer.waiting.has(key)) {
      explorer.waiting.set(key, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = `data/${key}.js`;
        const done = () => { explorer.waiting.delete(key); script.remove(); };
        script.onload = () => { done(); resolve(explorer.data.get(key)); };
        script.onerror = () => { done(); reject(new Error(`data/${key}.js is missing from this folder`)); };
        document.head.append(script);
      }));
    }
    return explorer.waiting.get(key);
  },
  overview(sae) { return explorer.load(`${sae}/overview`); },
  async latent(sae, index) {
    const key = `${sae}/shard-${Math.floor(index / meta.shard)}`, shard = await explorer.load(key);
    explorer.shards.delete(key);
    explorer.shards.add(key);
    for (const old of [...explorer.shards].slice(0, -SHARDS_HELD)) {
      explorer.shards.delete(old);
      explorer.data.delete(old);
    }
    const latent = shard.latents[index % meta.shard];
    const contexts = latent.poles.flatMap((pole) => pole.strongest);
    const strongest = Math.max(...contexts.map(([, codes, at]) => Math.abs(codes[at])));
    return { ...latent, strongest, strings: shard.strings };
  },
};

// A table that scrolls sideways on small screens.
const wideTable = (label, headings, rows) =>
  h("div", { class: "wide-table", tabindex: 0, role: "region", "aria-label": label }, h("table", { class: "numbers" },
    h("thead", {}, h("tr", {}, headings.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows)));

const twoSidedness = (fires, index) => {
  const [a, b] = [fires[0][index], fires[1][index]];
  return a + b ? Math.min(a, b) / (a + b) : null;
};

// Lower end of the 95 % Wilson interval of the two-sidedness, for sorting and filtering: one firing on each side is
// weak evidence.
function surelyTwoSided(fires, index) {
  const n = fires[0][index] + fires[1][index], p = twoSidedness(fires, index);
  if (!n) return -1;
  return Math.max(0, (p + 1.92 / n - 1.96 * Math.sqrt((p * (1 - p)) / n + 0.96 / n ** 2)) / (1 + 3.84 / n));
}

// #/overview/0?sort=scale, #/latent/0/123, #/compare/123, #/concept/2
function readAddress() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [view = "overview", ...rest] = path.split("/");
  return { view: view || "overview", numbers: rest.map(Number), query: new URLSearchParams(query) };
}

const latentAddress = (sae, index) => `#/latent/${sae}/${index}`;
let order = { sae: 0, list: null }; // the last list shown, which the arrow keys follow
let turn = 0, leave = null;

async function show() {
  const mine = ++turn;
  const { view, numbers, query } = readAddress();
  const apart = view === "compare" || view === "concept"; // not of a single SAE
  const sae = apart ? 0 : numbers[0] || 0;
  for (const link of document.querySelectorAll(".bar nav a")) {
    const here = link.dataset.sae === (apart ? view : String(sae));
    here ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  try {
    if (!meta.saes[sae]) throw new Error(`There is no such SAE: they go from 0 to ${meta.saes.length - 1}.`);
    const page = await pageOf(view, sae, numbers, query);
    if (mine !== turn) return; // the address changed meanwhile
    put(page.element, page.leave);
    document.title = page.title;
    page.shown?.();
    performance.mark(view === "overview" ? "rows" : "page");
    if (view !== "overview") { window.scrollTo(0, 0); main.focus({ preventScroll: true }); }
  } catch (error) {
    if (mine !== turn) return;
    put(h("div", { class: "page" }, h("h1", {}, "Nothing here"), h("p", {}, String(error.message)),
      h("p", {}, h("a", { href: "#/overview/0" }, "All latents"))));
  }
}

// Show an element; `left` is called before another replaces it.
function put(element, left = null) {
  leave?.();
  leave = left;
  main.replaceChildren(element);
}

function pageOf(view, sae, numbers, query) {
  switch (view) {
    case "overview": return overviewPage(sae, query);
    case "latent": return latentPage(sae, numbers[1]);
    case "compare": return comparePage(numbers[0]);
    case "concept": return conceptPage(numbers[0]);
    default: throw new Error(`There is no page “${view}”.`);
  }
}

function checked(index, count) {
  if (Number.isInteger(index) && index >= 0 && index < count) return index;
  throw new Error(`There is no such latent: they go from 0 to ${count - 1}.`);
}

// The latent before or after this one in the last list shown, else by number.
function beside(sae, index, step, count) {
  const list = order.sae === sae && order.list?.includes(index) ? order.list : null;
  if (!list) return index + step >= 0 && index + step < count ? index + step : null;
  return list[list.indexOf(index) + step] ?? null;
}

let focusSearch = false;
onKey["/"] = (event) => {
  event.preventDefault();
  const search = document.getElementById("search");
  if (search) return search.focus();
  const { view, numbers } = readAddress();
  focusSearch = true;
  location.hash = `#/overview/${view === "latent" ? numbers[0] : 0}`;
};
addEventListener("hashchange", show);
addEventListener("DOMContentLoaded", show);
