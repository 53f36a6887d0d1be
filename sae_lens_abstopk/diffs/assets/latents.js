// All latents by the share of the KL that each pole is, where the models part, and the report of the first latents.
"use strict";

const SORTS = {
  kl: { name: "KL share", of: (latent) => -meta.latents.indexOf(latent) },
  less: { name: "KL share of less", of: (latent) => valueOf(latent.poles[NEGATIVE]) },
  more: { name: "KL share of more", of: (latent) => valueOf(latent.poles[POSITIVE]) },
  active: { name: "share active", of: (latent) => latent.active },
  stability: { name: "stability", of: (latent) => latent.stability ?? -1 },
  number: { name: "number", of: (latent) => -latent.latent },
};
const latentAddress = (latent) => `#latent-${latent.latent}`;
setUpList({ q: "", sort: "kl", texts: "code" }, { sort: SORTS, texts: TEXTS }, latentAddress);

function matches(latent) {
  const needle = state.q.trim().toLowerCase();
  const texts = [...(latent.names ?? []), ...latent.poles.flatMap((pole) => [...pole.tokens, ...pole.promotes.map((text) => text.trim())])];
  return String(latent.latent) === needle || texts.some((text) => text.toLowerCase().includes(needle));
}

// The answer in one sentence.
function lead() {
  const [[, recovered], [, most]] = meta.recovered;
  return `The models differ by ${number(meta.kl?.[0])} nats a token. Added to the base model, `
    + `${meta.nLatents} latents recover ${shareOfKl(recovered?.[0])} of that; `
    + `all of the difference at this hook, ${shareOfKl(most?.[0])}.`;
}

function latentRow(latent, most) {
  const words = (side) => h("p", { class: `words ${SIDE_NAMES[side]}` },
    h("span", { class: "wording" }, side === POSITIVE ? "more: " : "less: "),
    latent.poles[side].active > 0
      ? namesOf(latent, side, 8, "  ") : h("span", { class: "nothing" }, "–"));
  const sides = SIDES.map((side) => `${side === POSITIVE ? "more" : "less"} ${shareOfKl(valueOf(latent.poles[side]))}`);
  const label = `${latent.share ? "" : "estimated "}KL share: ${sides.join(", ")}`;
  return h("li", { onclick: opensItem(latent) },
    h("p", { class: "number" }, h("a", { href: latentAddress(latent) }, `Latent ${latent.latent}`)),
    words(NEGATIVE),
    h("div", { class: "middle", title: label },
      bothBars(latent.poles.map((pole) => Math.max(valueOf(pole), 0)), most, { label, hollow: !latent.share }),
      h("p", { class: "under" }, latent.share ? shareOfKl(latent.share[0]) : `~${shareOfKl(latent.estimate)}`)),
    words(POSITIVE),
    h("p", { class: "active" }, h("span", { class: "wording" }, "active on "), percent(latent.active)),
    h("p", { class: "stability" }, dots(latent.stability)));
}

const measures = () => {
  const figures = (name, of) => h("section", { "aria-label": name }, h("h3", {}, name), figureList(of));
  return [h("div", { class: "measures" },
    figures("KL recovered by adding", meta.recovered.map(([kind, each]) => [kind, withEnds(each, shareOfKl)])),
    figures("FVU, lower is better", meta.fits.map(([kind, each]) => [kind, withEnds(each, (value) => fixed(value, 3))])),
    figures("The mean difference", [["of the energy", withEnds(meta.meanEnergy, shareOfKl)]])),
    meta.judge && h("p", { class: "note" }, meta.judge)];
};

function listPage() {
  const found = h("p", { class: "found", role: "status" });
  const rows = h("ol", { class: "axes" });
  const most = Math.max(...meta.latents.flatMap((latent) => latent.poles.map(valueOf)), 1e-9);
  const update = () => {
    keepListAddress();
    const { of } = SORTS[state.sort];
    list = meta.latents.filter(matches).sort((a, b) => of(b) - of(a) || a.latent - b.latent);
    rows.replaceChildren(...list.map((latent) => latentRow(latent, most)));
    rows.hidden = list.length === 0;
    found.textContent = foundText(meta.latents, "latents", "latent");
  };
  const search = searchField("Search tokens of the poles, or a number", update);
  update();
  return h("div", { class: "page list" }, h("h1", {}, lead()), measures(),
    h("div", { class: "controls" }, search, choice("Sorted by", "sort", update), found),
    h("div", { class: "heading", "aria-hidden": "true" },
      h("span"), h("b", { class: "negative-text" }, "the tuned model does less of this"),
      h("span", { class: "scale" }, shareOfKl(most), h("b", {}, "KL share"), shareOfKl(most)),
      h("b", { class: "positive-text" }, "… more of this"), h("span", {}, "active"), h("span", {}, "stability")),
    rows);
}

const partingPage = () => h("div", { class: "page" }, h("h1", {}, "Where the models part"),
  h("p", { class: "note" }, "The tokens of the held-out text after which KL(tuned || base) is highest, one a context."),
  legend(false), contextList(meta.parting, 1));

const reportPage = () => h("div", { class: "page report" }, h("h1", {}, lead()), measures(), legend(true),
  meta.latents.map((latent, n) => h("article", { "aria-label": `Latent ${latent.latent}` },
    h("h2", {}, h("span", { class: "kind" }, `${n + 1}.`), `Latent ${latent.latent}`),
    latent.names && h("p", { class: "named" }, versus(latent)), latentFigures(latent),
    h("div", { class: "poles" }, SIDES.map((side) => poleColumn(latent, side, "h3"))),
    writing(latent, "h3"))));

// #latent-7, #parting, or #?q=word&sort=active
function show() {
  const latent = /^#latent-(\d+)$/.exec(location.hash)?.[1], parting = location.hash === "#parting";
  for (const link of document.querySelectorAll(".bar nav a")) {
    if ((link.hash === "#parting") === parting) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (parting) return showPage(partingPage(), "Where the models part");
  if (latent === undefined) {
    readListAddress();
    main.replaceChildren(listPage());
    document.title = `What ${meta.models[0]} changed`;
    return focusList();
  }
  opened = meta.latents.find((each) => String(each.latent) === latent);
  if (opened && !list.includes(opened)) list = meta.latents;
  showPage(opened ? latentPage(opened) : h("div", { class: "page" },
    h("h1", {}, "Nothing here"), h("p", {}, `There is no latent ${latent}. `, h("a", { href: "#" }, "All latents"))),
  opened ? `Latent ${latent}` : "Nothing here");
}
if (meta.report) {
  addEventListener("DOMContentLoaded", () => main.replaceChildren(reportPage()));
} else {
  addEventListener("hashchange", show);
  addEventListener("DOMContentLoaded", show);
}
