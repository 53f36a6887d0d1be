// The table of all latents: sorted, filtered, and only as many rows in the page as can be seen.
"use strict";

const ROW = 36; // px, as in the style sheet
const FILTERS = [
  ["two", "two-sided at least", (d, i, given) => surelyTwoSided(d.fires, i) >= given, 0.05, "signed"],
  ["neg", "negative fires at least, %", (d, i, given) => (100 * d.fires[NEGATIVE][i]) / d.tokens >= given, 0.01, "signed"],
  ["pos", "positive fires at least, %", (d, i, given) => (100 * d.fires[POSITIVE][i]) / d.tokens >= given, 0.01],
  ["most", "fires at most, %", (d, i, given) => (100 * (d.fires[NEGATIVE][i] + d.fires[POSITIVE][i])) / d.tokens <= given, 0.01],
  ["scale", "scale at least", (d, i, given) => d.scale[i] >= given, 1],
];
const places = new Map(); // by address: how far a reader had scrolled, and the link that led away

function columnsOf(data) {
  const share = (side) => (i) => data.fires[side][i] / data.tokens;
  return [
    { key: "latent", name: "Latent", value: (i) => i, cell: (i, sae) => h("a", { href: latentAddress(sae, i) }, String(i)), numeric: true, up: true },
    data.signed && { key: "negative", name: "Negative pole", class: "label", value: (i) => data.labels[NEGATIVE][i], text: true, up: true,
      cell: (i) => h("span", { class: "negative-text" }, visible(data.labels[NEGATIVE][i])) },
    { key: "positive", name: data.signed ? "Positive pole" : "Fires on", class: "label", value: (i) => data.labels[POSITIVE][i], text: true, up: true,
      cell: (i) => h("span", { class: "positive-text" }, visible(data.labels[POSITIVE][i])) },
    data.signed && { key: "two", name: "Two-sided", value: (i) => surelyTwoSided(data.fires, i), numeric: true,
      cell: (i) => [balance(data, i), fixed(twoSidedness(data.fires, i))] },
    data.signed && { key: "neg", name: "− fires", value: share(NEGATIVE), cell: (i) => percent(share(NEGATIVE)(i)), numeric: true },
    { key: "pos", name: data.signed ? "+ fires" : "Fires", value: share(POSITIVE), cell: (i) => percent(share(POSITIVE)(i)), numeric: true },
    { key: "scale", name: "Scale", value: (i) => data.scale[i], cell: (i) => number(data.scale[i]), numeric: true },
    data.relations && { key: "relation", name: "Judged", value: (i) => data.relations[i] ?? "~", text: true, up: true, cell: (i) => data.relations[i] ?? "" },
    data.axis && { key: "axis", name: "Axis shared", value: (i) => data.axis[i] ?? -2, cell: (i) => fixed(data.axis[i]), numeric: true },
  ].filter(Boolean);
}

function balance(data, i) {
  const total = data.fires[0][i] + data.fires[1][i];
  return h("span", { class: "balance", "aria-hidden": "true" }, total > 0 && SIDES.map((side) =>
    h("span", { class: `${SIDE_NAMES[side]}-fill`, style: `inline-size: ${(100 * data.fires[side][i]) / total}%` })));
}

// Latents whose number, labels or top tokens have the words searched for; what stands in for a label is none.
function matching(data, search) {
  const needle = search.trim().toLowerCase();
  if (!needle) return null;
  const tokens = new Set(data.strings.flatMap((text, n) => (text.toLowerCase().includes(needle) ? [n] : [])));
  return (i) => String(i) === needle || SIDES.some((side) =>
    data.fires[side][i] > 0 && (data.labels[side][i].replace(/^mixed: /, "").toLowerCase().includes(needle) || data.top[side][i].some((n) => tokens.has(n))));
}

async function overviewPage(sae, query) {
  const data = await explorer.overview(sae);
  const count = data.scale.length;
  const columns = columnsOf(data);
  const suggested = { key: "", up: true, value: (() => {
    const rank = new Array(count);
    data.suggested.forEach((i, n) => { rank[i] = n; });
    return (i) => rank[i];
  })() };
  const state = { sort: query.get("sort") ?? "", up: query.get("dir") === "up", q: query.get("q") ?? "" };
  const filters = FILTERS.filter(([, , , , only]) => data.signed || !only);
  for (const [key] of FILTERS) state[key] = "";
  for (const [key] of filters) state[key] = query.get(key) ?? "";
  if (!columns.some((column) => column.key === state.sort)) state.sort = "";
  if (!state.sort) state.up = true;
  let list = [];

  const search = h("input", { id: "search", type: "search", placeholder: "Search labels and top tokens", "aria-label": "Search labels, top tokens or a number", autocomplete: "off",
    oninput: (event) => { state.q = event.target.value; update(); },
    onkeydown: (event) => { if (event.key === "Enter" && !event.isComposing && list.length) location.hash = latentAddress(sae, list[0]); } });
  search.value = state.q;
  const inputs = filters.map(([key, name, , step]) => {
    const input = h("input", { type: "number", min: 0, step, name: key, oninput: (event) => { state[key] = event.target.value; update(); } });
    input.value = state[key];
    return h("label", {}, h("span", {}, name), input);
  });
  const found = h("p", { class: "found", role: "status" });
  const back = h("button", { type: "button", class: "plain", hidden: true, onclick: () => { scroller.focus(); sortBy(suggested); } }, "suggested order");
  const body = h("tbody");
  const headings = columns.map((column) => h("th", { scope: "col", class: classOf(column) },
    h("button", { type: "button", onclick: () => sortBy(column) }, column.name, h("span", { class: "arrow", "aria-hidden": "true" }))));
  const table = h("table", {}, h("caption", { class: "unseen" }, `Latents of ${meta.saes[sae].name}`), h("thead", {}, h("tr", {}, headings)), body);
  const scroller = h("div", { class: "scroller", tabindex: 0, role: "region", "aria-label": "Table of latents", onscroll: () => render() }, table);
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
    const bounds = filters.filter(([key]) => state[key] !== "" && Number.isFinite(Number(state[key])));
    const keys = Array.from({ length: count }, (_, i) => column.value(i));
    const sign = state.up ? 1 : -1;
    list = [...keys.keys()].filter((i) => (!matches || matches(i)) && bounds.every(([key, , holds]) => holds(data, i, Number(state[key]))));
    const numbered = /^\d+$/.test(state.q.trim()) ? Number(state.q) : null; // a latent asked for by number comes first
    list.sort((a, b) => (a === numbered ? -1 : b === numbered ? 1 : keys[a] < keys[b] ? -sign : keys[a] > keys[b] ? sign : a - b));
    order = { sae, list };
    headings.forEach((heading, n) => {
      const sorted = columns[n] === column;
      sorted ? heading.setAttribute("aria-sort", state.up ? "ascending" : "descending") : heading.removeAttribute("aria-sort");
      heading.querySelector(".arrow").textContent = sorted ? (state.up ? "▲" : "▼") : "";
    });
    table.setAttribute("aria-rowcount", list.length + 1);
    found.textContent = list.length === count ? `${count.toLocaleString("en-US")} latents` : `${list.length.toLocaleString("en-US")} of ${count.toLocaleString("en-US")} latents`;
    const address = new URLSearchParams();
    if (state.sort) { address.set("sort", state.sort); if (state.up) address.set("dir", "up"); }
    back.hidden = !state.sort;
    for (const key of ["q", ...filters.map(([each]) => each)]) if (state[key]) address.set(key, state[key]);
    scroller.scrollTop = 0;
    render();
    plot.draw(list);
    here = `#/overview/${sae}${address.size ? `?${address}` : ""}`;
    try { history.replaceState(null, "", here); } catch { /* Safari: a hundred in 30 s */ }
  }

  function open(event, i) {
    // a link opens as the browser would have it, and the end of a selection opens nothing
    if (event.target.closest("a") || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || !getSelection().isCollapsed) return;
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
    const space = (rows) => rows > 0 && h("tr", { class: "space", "aria-hidden": "true", style: `block-size: ${rows * ROW}px` }, h("td"));
    const rows = list.slice(first, last).map((i, n) => h("tr", { "aria-rowindex": first + n + 2, onclick: (event) => open(event, i) },
      columns.map((column) => h("td", { class: classOf(column) }, column.cell(i, sae)))));
    const nothing = list.length === 0 && h("tr", {}, h("td", { colspan: columns.length, class: "nothing" }, "No latent matches. Shorten the search or clear a filter."));
    body.replaceChildren(...[space(first), ...rows, space(list.length - last), nothing].filter(Boolean));
    focusLink(focused);
  }

  const s = data.summary;
  const figures = [["FVU", fixed(s.fvu, 3)], ["nMSE", fixed(s.nmse, 3)], ["L0", fixed(s.l0, 1)],
    ["dead latents", s.dead.toLocaleString("en-US")],
    data.signed && ["dead poles", s.deadPoles.toLocaleString("en-US")], s.closedPoles > 0 && data.signed && ["closed poles", s.closedPoles.toLocaleString("en-US")],
    data.signed && ["mean two-sided", fixed(s.twoSided)]].filter(Boolean);
  const element = h("div", { class: "overview" },
    h("section", { class: "list", "aria-label": "Latents" },
      h("div", { class: "head" }, h("h1", {}, meta.saes[sae].name), found, back),
      h("div", { class: "controls" }, search, h("details", { open: filters.some(([key]) => state[key]) }, h("summary", {}, "Filters"), h("div", { class: "filters" }, inputs))),
      scroller),
    h("aside", { "aria-label": "Summary" },
      h("dl", { class: "figures" }, figures.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
      h("p", { class: "note" }, `${data.architecture}, ${data.tokens.toLocaleString("en-US")} tokens; FVU and nMSE on ${s.reconstructed.toLocaleString("en-US")} of them.`),
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
