// All axes as a list with a bar to either side; addresses and keys.
"use strict";

const hasEffects = meta.aucs !== null;
const BARS = {
  effect: { name: "effect, length held equal", middle: 0, of: (axis) => axis.effect, show: points, unit: " points" },
  wins: { name: "win rate", middle: 0.5, of: (axis) => axis.winRate, show: share, unit: "" },
};
function size(axis) {
  const bars = BARS[state.bars], interval = bars.of(axis);
  return interval ? Math.abs(interval[0] - bars.middle) : -1;
}
const SORTS = {
  names: { name: "stable and true names", of: (axis) => -meta.axes.indexOf(axis) },
  active: { name: "share active", of: (axis) => axis.active },
  ...(hasEffects && { bar: { name: "size of the bar", of: size } }),
  stability: { name: "stability", of: (axis) => axis.stability ?? -1 },
  number: { name: "number", of: (axis) => -axis.latent },
};

const axisAddress = (axis) => `#axis-${axis.latent}`;
setUpList({ q: "", bars: "effect", sort: Object.keys(SORTS)[0] }, { bars: BARS, sort: SORTS }, axisAddress);

function matches(axis) {
  const needle = state.q.trim().toLowerCase();
  const texts = [...axis.names, ...axis.words.flat()];
  return String(axis.latent) === needle || texts.some((text) => text.toLowerCase().includes(needle));
}

// The answer in one sentence.
function lead() {
  const all = meta.axes.length;
  if (!hasEffects) {
    const stable = meta.axes.filter((axis) => axis.stability > 0.5).length;
    const known = meta.axes.some((axis) => axis.stability != null) && `; ${stable} of them are in most other seeds`;
    return `${all} axes along which the texts of a pair differ${known || ""}.`;
  }
  const confirmed = meta.axes.filter((axis) => axis.confirmed).length;
  return `Of ${all} axes, ${confirmed || "none"} ${confirmed < 2 ? "has" : "have"} a confirmed effect on which text is `
    + "preferred.";
}

function axisRow(axis, most) {
  const bars = BARS[state.bars], interval = hasEffects && bars.of(axis);
  const preferred = axis.confirmed && (axis.effect[0] < 0 ? NEGATIVE : POSITIVE);
  const words = (side) => h("p", { class: `words ${SIDE_NAMES[side]}${side === preferred ? " preferred" : ""}` },
    h("span", { class: "wording" }, side === POSITIVE ? "+ " : "− "),
    poleText(side, axis.names[side]),
    axis.words[side].length > 0 && h("span", { class: "note" }, ` ${axis.words[side].slice(0, 5).join(", ")}`));
  const label = interval
    && `${bars.name} ${bars.show(interval[0])}${bars.unit}, 95 % interval ${ends(interval, bars.show)}`;
  return h("li", { onclick: opensItem(axis) },
    h("p", { class: "number" }, h("a", { href: axisAddress(axis) }, `Axis ${axis.latent}`)),
    words(NEGATIVE),
    h("div", { class: "middle", title: label },
      interval && sideBar(interval.map((each) => (each == null ? null : each - bars.middle)), most,
        { label, hollow: !axis.confirmed }),
      h("p", { class: "under" },
        hasEffects && (interval ? bars.show(interval[0]) : h("span", { class: "nothing" }, "too few preferences")),
        axis.confirmed && h("span", { class: "badge confirmed" }, "✓ confirmed"),
        axis.named && h("span", { class: "badge" }, `name ${signed(axis.fidelity[0])}`),
        axis.relation && h("span", { class: "badge" }, axis.relation),
        axis.disagreement?.found && h("span", { class: "badge" }, "groups disagree"))),
    words(POSITIVE),
    h("p", { class: "active" }, h("span", { class: "wording" }, "active on "), share(axis.active)),
    h("p", { class: "stability" }, dots(axis.stability)));
}

function listPage() {
  const found = h("p", { class: "found", role: "status" });
  const rows = h("ol", { class: "axes" }), scale = h("span", { class: "scale" });
  const update = () => {
    keepListAddress();
    const { of } = SORTS[state.sort], bars = BARS[state.bars];
    list = meta.axes.filter(matches).sort((a, b) => of(b) - of(a) || a.latent - b.latent);
    const drawn = meta.axes.flatMap((axis) => bars.of(axis) ?? []).filter((each) => each != null);
    const most = Math.max(...drawn.map((each) => Math.abs(each - bars.middle)), 1e-9);
    if (hasEffects) {
      scale.replaceChildren(bars.show(bars.middle - most), h("b", {}, "← preferred →"), bars.show(bars.middle + most));
    }
    rows.replaceChildren(...list.map((axis) => axisRow(axis, most)));
    rows.hidden = list.length === 0;
    found.textContent = foundText(meta.axes, "axes", "axis");
  };
  const search = searchField("Search words of the poles, or a number", update);
  const figures = (name, of) => h("section", { "aria-label": name }, h("h3", {}, name),
    figureList(of.map(([kind, interval]) => [kind, withEnds(interval, (value) => fixed(value, 3))])));
  update();
  return h("div", { class: `page list${hasEffects ? "" : " bare"}` }, h("h1", {}, lead()),
    h("div", { class: "measures" },
      hasEffects && figures("AUC of preferences, told from", meta.aucs), figures("FVU, lower is better", meta.fits)),
    h("div", { class: "controls" }, search, hasEffects && choice("Bars", "bars", update),
      choice("Sorted by", "sort", update), found),
    h("div", { class: "heading", "aria-hidden": "true" },
      h("span"), h("b", { class: "negative-text" }, "negative pole"), scale,
      h("b", { class: "positive-text" }, "positive pole"), h("span", {}, "active"), h("span", {}, "stability")),
    rows);
}

// #axis-7, or #?q=word&sort=active
function show() {
  const latent = /^#axis-(\d+)$/.exec(location.hash)?.[1];
  if (latent === undefined) {
    readListAddress();
    main.replaceChildren(listPage());
    document.title = `${meta.data} · axes`;
    focusList();
    return;
  }
  opened = meta.axes.find((axis) => String(axis.latent) === latent);
  if (opened && !list.includes(opened)) list = meta.axes;
  showPage(opened ? axisPage(opened) : h("div", { class: "page" },
    h("h1", {}, "Nothing here"), h("p", {}, `There is no axis ${latent}. `, h("a", { href: "#" }, "All axes"))),
  opened ? `Axis ${latent}: ${opened.names[NEGATIVE]} ↔ ${opened.names[POSITIVE]}` : "Nothing here");
}

addEventListener("hashchange", show);
addEventListener("DOMContentLoaded", show);
