// All axes as a list with a bar to either side; addresses and keys.
"use strict";

const CARD_TEXT = 300, ROW_TEXT = 80; // characters of a text
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

const sure = meta.axes.filter((axis) => axis.sure);
const isKnown = meta.axes.some((axis) => axis.stability != null);
const FOLDED_AXES = isKnown ? "unstable or unnamed" : "unnamed";
const SURE_AXES = `${sure.length || "no"} ${isKnown ? "stable " : ""}${sure.length === 1 ? "axis" : "axes"} with a name that holds`;

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
  if (!hasEffects) return `${all} axes along which the texts of a pair differ, among them ${SURE_AXES}.`;
  const confirmed = meta.axes.filter((axis) => axis.confirmed).length;
  return `Of ${all} axes, ${confirmed || "none"} ${confirmed < 2 ? "has" : "have"} a confirmed effect on which text is `
    + "preferred.";
}

// The axis in short: both names, how sure they are, and its clearest pair.
function card(axis) {
  const texts = clearest(axis, CARD_TEXT);
  return h("li", { class: "card" },
    h("h3", {}, h("a", { href: axisAddress(axis) }, poleText(NEGATIVE, axis.names[NEGATIVE]),
      h("span", { class: "versus" }, " ↔ "), poleText(POSITIVE, axis.names[POSITIVE]))),
    figureList([
      axis.named && ["fidelity", withEnds(axis.fidelity, fixed)],
      axis.stability != null && ["in other seeds", [share(axis.stability), " ", dots(axis.stability)]],
      axis.effect && ["effect, points", [withEnds(axis.effect, points), axis.confirmed && [" ", h("span", { class: "badge confirmed" }, "✓ confirmed")]]],
      axis.relation && ["the poles are", axis.relation],
    ]),
    texts && h("div", { class: "sides" }, SIDES.map((side) =>
      h("p", { class: `text-of ${SIDE_NAMES[side]}`, dir: "auto" }, h("span", {}, texts[side])))));
}

// Known concepts, and what tells the two texts of their pairs apart.
function conceptTable() {
  const heads = ["one signed latent", "two one-sided latents of F", "two of 2F", "difference in means"];
  const head = (text, attributes) => h("th", { scope: "col", ...attributes }, text);
  const row = ({ poles, latent, told }) => h("tr", {},
    h("th", { scope: "row" }, poles.map(visible).join(" / ")),
    h("td", {}, h("a", { href: `#axis-${latent}` }, `${latent}`)),
    told.flat().map((value) => h("td", {}, fixed(value))));
  return meta.concepts.length > 0 && h("section", { class: "concepts", "aria-label": "Known concepts" },
    h("h2", {}, "Known concepts"),
    h("p", { class: "note" }, "The names in this table are the known concepts: they were given, and not read off the axes. "
      + "On pairs of templates that nothing was chosen by. AUROC: A − B against B − A; cover: share of both on the right "
      + "side of 0, at most half for one one-sided latent."),
    h("div", { class: "wide-table", tabindex: 0, role: "region", "aria-label": "Table of known concepts" },
      h("table", { class: "numbers" },
        h("thead", {},
          h("tr", {}, head("concept", { rowspan: 2 }), head("axis", { rowspan: 2 }),
            heads.map((text) => head(text, { colspan: 2, scope: "colgroup" }))),
          h("tr", {}, heads.flatMap(() => [head("AUROC"), head("cover")]))),
        h("tbody", {}, meta.concepts.map(row)))));
}

function axisRow(axis, most) {
  const bars = BARS[state.bars], interval = hasEffects && bars.of(axis);
  const texts = !axis.named && !axis.relation && clearest(axis, ROW_TEXT); // in place of a name
  const preferred = axis.confirmed && (axis.effect[0] < 0 ? NEGATIVE : POSITIVE);
  const words = (side) => h("p", { class: `words ${SIDE_NAMES[side]}${side === preferred ? " preferred" : ""}` },
    h("span", { class: "wording" }, side === POSITIVE ? "+ " : "− "),
    poleText(side, axis.names[side]),
    texts ? h("span", { class: "note example" }, " “", texts[side], "”")
      : axis.words[side].length > 0 && h("span", { class: "note" }, ` ${axis.words[side].slice(0, 5).join(", ")}`));
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
  const [rows, folded] = [1, 2].map(() => h("ol", { class: "axes" }));
  const summary = h("summary"), fold = h("details", {}, summary, folded), scale = h("span", { class: "scale" });
  const update = () => {
    keepListAddress();
    const { of } = SORTS[state.sort], bars = BARS[state.bars];
    list = meta.axes.filter(matches)
      .sort((a, b) => b.sure - a.sure || of(b) - of(a) || a.latent - b.latent);
    const drawn = meta.axes.flatMap((axis) => bars.of(axis) ?? []).filter((each) => each != null);
    const most = Math.max(...drawn.map((each) => Math.abs(each - bars.middle)), 1e-9);
    if (hasEffects) {
      scale.replaceChildren(bars.show(bars.middle - most), h("b", {}, "← preferred →"), bars.show(bars.middle + most));
    }
    const rest = list.filter((axis) => !axis.sure), confirmed = rest.filter((axis) => axis.confirmed).length;
    rows.replaceChildren(...list.filter((axis) => axis.sure).map((axis) => axisRow(axis, most)));
    folded.replaceChildren(...rest.map((axis) => axisRow(axis, most)));
    rows.hidden = rest.length === list.length;
    fold.hidden = rest.length === 0;
    fold.open ||= rows.hidden || state.q !== "" || rest.includes(opened);
    summary.textContent = `${rest.length} ${FOLDED_AXES} ${rest.length === 1 ? "axis" : "axes"}`
      + (confirmed ? `, ${confirmed} with a confirmed effect` : "");
    found.textContent = foundText(meta.axes, "axes", "axis");
  };
  const search = searchField("Search words of the poles, or a number", update);
  const figures = (name, of) => h("section", { "aria-label": name }, h("h3", {}, name),
    figureList(of.map(([kind, interval]) => [kind, withEnds(interval, (value) => fixed(value, 3))])));
  update();
  return h("div", { class: `page list${hasEffects ? "" : " bare"}` }, h("h1", {}, lead()),
    sure.length > 0 && h("section", { "aria-label": "Axes in short" },
      h("h2", {}, sure.length > meta.cards && `The first ${meta.cards} of `, SURE_AXES),
      h("ol", { class: "cards" }, sure.slice(0, meta.cards).map(card))),
    conceptTable(),
    h("div", { class: "measures" },
      hasEffects && figures("AUC of preferences, told from", meta.aucs), figures("FVU, lower is better", meta.fits)),
    h("div", { class: "controls" }, search, hasEffects && choice("Bars", "bars", update),
      choice("Sorted by", "sort", update), found),
    h("div", { class: "heading", "aria-hidden": "true" },
      h("span"), h("b", { class: "negative-text" }, "negative pole"), scale,
      h("b", { class: "positive-text" }, "positive pole"), h("span", {}, "active"), h("span", {}, "stability")),
    rows, fold);
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
