// The table of all latents, sorted and filtered; only the rows in sight are in the page.
"use strict";

const ROW = matchMedia("(max-width: 1000px)").matches ? 76 : 36; // px, as in the style sheet
const share = (data, side, i) => data.fires[side][i] / data.tokens;
const FILTERS = [
  { key: "two", name: "two-sided at least", step: 0.05, ofSigned: true,
    holds: (d, i, bound) => surelyTwoSided(d.fires, i) >= bound },
  { key: "neg", name: "negative fires at least, %", step: 0.01, ofSigned: true,
    holds: (d, i, bound) => 100 * share(d, NEGATIVE, i) >= bound },
  { key: "pos", name: "positive fires at least, %", step: 0.01,
    holds: (d, i, bound) => 100 * share(d, POSITIVE, i) >= bound },
  { key: "most", name: "fires at most, %", step: 0.01,
    holds: (d, i, bound) => (100 * (d.fires[NEGATIVE][i] + d.fires[POSITIVE][i])) / d.tokens <= bound },
  { key: "scale", name: "scale at least", step: 1, holds: (d, i, bound) => d.scale[i] >= bound },
];
const places = new Map(); // address to scroll position and last opened link

function columnsOf(data, rank) {
  const label = (side) => ({
    class: "label", up: true, value: (i) => data.labels[side][i], cell: (i) => poleText(side, data.labels[side][i]),
  });
  const fires = (side) => ({
    numeric: true, value: (i) => share(data, side, i), cell: (i) => percent(share(data, side, i)),
  });
  return [
    { key: "latent", name: "Latent", numeric: true, up: true, value: (i) => i,
      cell: (i, sae) => h("a", { href: latentAddress(sae, i) }, String(i)) },
    data.signed && { key: "negative", name: "Negative pole", ...label(NEGATIVE) },
    { key: "positive", name: data.signed ? "Positive pole" : "Fires on", ...label(POSITIVE) },
    data.signed && { key: "verdict", name: "Verdict", up: true, value: (i) => rank[i],
      cell: (i) => data.verdicts[i] },
    data.signed && { key: "two", name: "Two-sided", numeric: true, value: (i) => surelyTwoSided(data.fires, i),
      cell: (i) => [balance(data, i), fixed(twoSidedness(data.fires, i))] },
    data.signed && { key: "neg", name: "− fires", ...fires(NEGATIVE) },
    { key: "pos", name: data.signed ? "+ fires" : "Fires", ...fires(POSITIVE) },
    { key: "scale", name: "Scale", numeric: true, value: (i) => data.scale[i], cell: (i) => number(data.scale[i]) },
    data.axis && { key: "axis", name: "Axis shared", numeric: true, value: (i) => data.axis[i] ?? -2,
      cell: (i) => fixed(data.axis[i]) },
  ].filter(Boolean);
}

// A bar of the two poles' shares of the firings.
function balance(data, i) {
  const total = data.fires[0][i] + data.fires[1][i];
  const width = (side) => `inline-size: ${(100 * data.fires[side][i]) / total}%`;
  return h("span", { class: "balance", "aria-hidden": "true" },
    total > 0 && SIDES.map((side) => h("span", { class: `${SIDE_NAMES[side]}-fill`, style: width(side) })));
}

// Whether a latent's number, labels or top tokens match; what stands in for a label does not count.
function matching(data, search) {
  const needle = search.trim().toLowerCase();
  if (!needle) return null;
  const tokens = new Set(data.strings.flatMap((text, n) => (text.toLowerCase().includes(needle) ? [n] : [])));
  const inLabel = (side, i) => data.labels[side][i].replace(/^mixed: /, "").toLowerCase().includes(needle);
  const inTokens = (side, i) => data.top[side][i].some((n) => tokens.has(n));
  return (i) => String(i) === needle
    || SIDES.some((side) => data.fires[side][i] > 0 && (inLabel(side, i) || inTokens(side, i)));
}

async function overviewPage(sae, query) {
  const data = await explorer.overview(sae);
  const count = data.scale.length;
  const rank = [];
  data.suggested.forEach((i, n) => { rank[i] = n; });
  const columns = columnsOf(data, rank);
  const suggested = { key: "", up: true, value: (i) => rank[i] };
  const filters = FILTERS.filter(({ ofSigned }) => data.signed || !ofSigned);
  const state = { sort: query.get("sort") ?? "", up: query.get("dir") === "up", q: query.get("q") ?? "" };
  for (const { key } of filters) state[key] = query.get(key) ?? "";
  if (!columns.some((column) => column.key === state.sort)) state.sort = "";
  if (!state.sort) state.up = true;
  let list = [];

  const search = h("input", {
    id: "search", type: "search", placeholder: `Search labels and top ${OF_ROWS ? "words" : "tokens"}`, autocomplete: "off",
    "aria-label": `Search labels, top ${OF_ROWS ? "words" : "tokens"} or a number`,
    oninput: (event) => { state.q = event.target.value; update(); },
    onkeydown: (event) => {
      if (event.key === "Enter" && !event.isComposing && list.length) location.hash = latentAddress(sae, list[0]);
    },
  });
  search.value = state.q;
  const inputs = filters.map(({ key, name, step }) => {
    const oninput = (event) => { state[key] = event.target.value; update(); };
    const input = h("input", { type: "number", min: 0, step, name: key, oninput });
    input.value = state[key];
    return h("label", {}, h("span", {}, name), input);
  });
  const found = h("p", { class: "found", role: "status" });
  const sorting = h("p", { class: "sorting" });
  const back = h("button", {
    type: "button", class: "plain", hidden: true, onclick: () => { scroller.focus(); sortBy(suggested); },
  }, "suggested order");
  const body = h("tbody");
  const headings = columns.map((column) => h("th", { scope: "col", class: classOf(column) },
    h("button", { type: "button", onclick: () => sortBy(column) }, column.name,
      h("span", { class: "arrow", "aria-hidden": "true" }))));
  const table = h("table", {}, h("caption", { class: "unseen" }, `Latents of ${meta.saes[sae].name}`),
    h("thead", {}, h("tr", {}, headings)), body);
  const scroller = h("div", {
    class: "scroller", tabindex: 0, role: "region", "aria-label": "Table of latents", onscroll: () => render(),
  }, table);
  const plot = scatter(data, sae);

  function classOf(column) { return [column.key, column.class, column.numeric && "numeric"].filter(Boolean).join(" "); }

  function sortBy(column) {
    state.up = state.sort === column.key ? !state.up : Boolean(column.up);
    state.sort = column.key;
    update();
  }

  function update() {
    const column = columns.find((each) => each.key === state.sort) ?? suggested;
    const matches = matching(data, state.q);
    const bounds = filters.filter(({ key }) => state[key] !== "" && Number.isFinite(Number(state[key])));
    const keys = Array.from({ length: count }, (_, i) => column.value(i));
    const sign = state.up ? 1 : -1;
    list = [...keys.keys()].filter((i) =>
      (!matches || matches(i)) && bounds.every(({ key, holds }) => holds(data, i, Number(state[key]))));
    const numbered = /^\d+$/.test(state.q.trim()) ? Number(state.q) : null; // a latent searched by number comes first
    list.sort((a, b) => {
      if (a === numbered || b === numbered) return a === numbered ? -1 : 1;
      return keys[a] < keys[b] ? -sign : keys[a] > keys[b] ? sign : a - b;
    });
    order = { sae, list };
    headings.forEach((heading, n) => {
      const sorted = columns[n] === column;
      if (sorted) heading.setAttribute("aria-sort", state.up ? "ascending" : "descending");
      else heading.removeAttribute("aria-sort");
      heading.querySelector(".arrow").textContent = sorted ? (state.up ? "▲" : "▼") : "";
    });
    table.setAttribute("aria-rowcount", list.length + 1);
    found.textContent = `${list.length === count ? "" : `${whole(list.length)} of `}${whole(count)} latents`;
    sorting.textContent = column === suggested ? "in the suggested order"
      : `sorted by ${column.name.toLowerCase()}, ${state.up ? "ascending" : "descending"}`;
    back.hidden = !state.sort;
    scroller.scrollTop = 0;
    render();
    plot.draw(list);
    here = addressOf();
    try { history.replaceState(null, "", here); } catch { /* Safari allows a hundred in 30 s */ }
  }

  function addressOf() {
    const address = new URLSearchParams();
    if (state.sort) address.set("sort", state.sort);
    if (state.sort && state.up) address.set("dir", "up");
    for (const key of ["q", ...filters.map((each) => each.key)]) if (state[key]) address.set(key, state[key]);
    return `#/overview/${sae}${address.size ? `?${address}` : ""}`;
  }

  function open(event, i) {
    // links, modified clicks and the end of a selection are the browser's
    const modified = event.ctrlKey || event.metaKey || event.shiftKey || event.altKey;
    if (event.target.closest("a") || modified || !getSelection().isCollapsed) return;
    opened = latentAddress(sae, i);
    location.hash = opened;
  }

  let drawn = null, here = null, opened = null;
  const focusedLink = () => body.contains(document.activeElement) && document.activeElement.getAttribute("href");
  const focusLink = (href) => href && body.querySelector(`a[href="${href}"]`)?.focus({ preventScroll: true });
  function render() {
    const height = scroller.clientHeight || 800;
    const first = Math.max(0, Math.floor(scroller.scrollTop / ROW) - 10);
    const last = Math.min(list.length, first + Math.ceil(height / ROW) + 20);
    if (drawn && drawn.list === list && drawn.first === first && drawn.last === last) return;
    drawn = { list, first, last };
    const focused = focusedLink();
    const space = (rows) => rows > 0
      && h("tr", { class: "space", "aria-hidden": "true", style: `block-size: ${rows * ROW}px` }, h("td"));
    const rows = list.slice(first, last).map((i, n) =>
      h("tr", { "aria-rowindex": first + n + 2, onclick: (event) => open(event, i) },
        columns.map((column) => h("td", { class: classOf(column) }, column.cell(i, sae)))));
    const nothing = list.length === 0 && h("tr", {}, h("td", { colspan: columns.length, class: "nothing" },
      "No latent matches. Shorten the search or clear a filter."));
    body.replaceChildren(...[space(first), ...rows, space(list.length - last), nothing].filter(Boolean));
    focusLink(focused);
  }

  const s = data.summary;
  const element = h("div", { class: "overview" },
    h("section", { class: "list", "aria-label": "Latents" },
      h("div", { class: "head" }, h("h1", {}, meta.saes[sae].name), found, sorting, back),
      h("div", { class: "controls" }, search,
        h("details", { open: filters.some(({ key }) => state[key]) },
          h("summary", {}, "Filters"), h("div", { class: "filters" }, inputs))),
      scroller),
    h("aside", { "aria-label": "Summary" },
      figureList([
        ["FVU", fixed(s.fvu, 3)], ["nMSE", fixed(s.nmse, 3)], ["L0", fixed(s.l0, 1)], 
        s.dead !== null && [`dead latents (last ${whole(s.deadTokens)} training ${UNIT})`, whole(s.dead)],
        ["did not fire here", whole(s.silent)],
        data.signed && ["dead poles", whole(s.deadPoles)],
        data.signed && s.closedPoles > 0 && ["closed poles", whole(s.closedPoles)],
        data.signed && ["mean two-sided", fixed(s.twoSided)],
      ]),
      h("p", { class: "note" },
        `${data.architecture}, ${whole(data.tokens)} ${UNIT}; FVU and nMSE on `
        + `${s.reconstructed < data.tokens ? whole(s.reconstructed) : "all"} of them.`),
      meta.judge && sae === 0 && h("p", { class: "note" }, `${meta.judge}.`),
      plot.figure));
  return {
    element, title: `${meta.saes[sae].name} · latents`,
    shown() {
      update();
      const place = places.get(here);
      if (place) {
        scroller.scrollTop = place.top;
        render();
        focusLink(place.link);
      }
      if (focusSearch) { focusSearch = false; search.focus(); }
    },
    leave() { places.set(here, { top: scroller.scrollTop, link: opened ?? focusedLink() }); },
  };
}
