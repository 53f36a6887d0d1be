// The page of one latent: what the tuned model does less of, and what it does more of.
"use strict";

const POLE_SAYS = ["The tuned model does more of this", "The tuned model does less of this"];
const shareOfKl = (value) => (value == null ? "–" : minus(`${(100 * value).toFixed(1)} %`));
// A measured share with its interval, or an estimate.
const measured = (part) => (part.share ? withEnds(part.share, shareOfKl) : `~${shareOfKl(part.estimate)}`);
// Orders of a pole's texts, by their framed tokens.
const TEXTS = {
  code: { name: "code", of: ({ codes, at }) => Math.abs(codes[at]) },
  kl: { name: "KL", of: ({ kl, at }) => kl[at] ?? -1 },
};
const valueOf = (part) => (part.share ? part.share[0] : part.estimate);

function poleColumn(latent, side, level = "h2") {
  const pole = latent.poles[side], name = SIDE_NAMES[side];
  const strongest = Math.max(...latent.poles.map((each) => each.scale), 1e-12);
  const { of } = TEXTS[state.texts];
  const fires = pole.active > 0;
  return h("section", { class: `pole ${name}`, "aria-label": POLE_SAYS[side] },
    h(level, { class: "name" }, poleText(side, POLE_SAYS[side])),
    fires ? [
      h("p", { class: "note" }, "KL share ", measured(pole),
        `; active on ${percent(pole.active)} of the tokens; 99 % of its codes are within ${number(pole.scale)}`),
      contextList([...pole.contexts].sort((a, b) => of(b) - of(a)), strongest),
    ] : h("p", { class: "nothing" }, "Never active on this side in the held-out text."),
    pole.promotes.length > 0 && h("div", { class: "tokens" },
      h("h3", {}, `${side === POSITIVE ? "+d" : "−d"} promotes, in the tuned model`),
      h("ul", {}, pole.promotes.map((text) => h("li", {}, token(text))))));
}

// What both models write from the same prompts, as they are and with the latent added or removed.
function writing(latent, level = "h2") {
  const found = meta.writing[latent.latent];
  if (!found) return null;
  const [side, code, added, removed] = found;
  const pole = poleText(side > 0 ? POSITIVE : NEGATIVE, side > 0 ? "more" : "less");
  const text = (name, of, shade) => h("li", { class: shade || null }, h("span", { class: "strength" }, name),
    h("span", { dir: "auto" }, of.trim() === "" ? h("span", { class: "nothing" }, "(ended at once)") : lines(of)));
  return h("section", { class: "steered" }, h(level, {}, "What they write"),
    h("p", { class: "note" }, "Greedy continuations; ", pole, ` of the latent, a code of ${number(code)}, is added to the base `
      + "model at every token, or what differs along the latent is removed from the tuned one."),
    meta.written.map(([prompt, tuned, base], n) => h("div", {},
      h("p", { class: "prompt", dir: "auto" }, lines(prompt)),
      h("ol", {}, text("tuned model", tuned), text("tuned, latent removed", removed[n], SIDE_NAMES[side > 0 ? NEGATIVE : POSITIVE]),
        text("base, latent added", added[n], SIDE_NAMES[side > 0 ? POSITIVE : NEGATIVE]), text("base model", base)))));
}

// The names that a language model gave to both poles, or the tokens at which they are strongest.
const namesOf = (latent, side, n, between) =>
  poleText(side, latent.names?.[side] || latent.poles[side].tokens.slice(0, n).join(between) || "–");
const versus = (latent) => [namesOf(latent, NEGATIVE, 3, " "), h("span", { class: "versus" }, "↔"), namesOf(latent, POSITIVE, 3, " ")];

const latentFigures = (latent) => figureList([
  ["KL share", measured(latent)],
  ["active on", percent(latent.active)],
  latent.stability != null && ["in other seeds", share(latent.stability)],
  latent.halves != null && ["in SAEs of half the text", share(latent.halves)],
  ["cosine with the mean difference", fixed(latent.meanCosine)],
  latent.relation && ["the poles, by a language model", latent.relation],
]);

function latentPage(latent) {
  const poles = h("div", { class: "poles" });
  const update = () => poles.replaceChildren(...SIDES.map((side) => poleColumn(latent, side)));
  update();
  return h("article", { class: "page" },
    h("div", { class: "title" }, steps(latent, "all latents"),
      h("h1", {}, h("span", { class: "kind" }, `Latent ${latent.latent}`), versus(latent))),
    latentFigures(latent),
    steerPanel({ latent: latent.latent, scale: Math.max(...latent.poles.map((pole) => pole.scale)),
      pole: (side) => namesOf(latent, side, 3, " "), most: 2, first: 1 }),
    h("div", { class: "controls" }, choice("Texts by", "texts", update), legend(true)),
    poles, writing(latent));
}
