// The page of one concept of an evaluation: the latents found for it, their scores, and how they steer.
"use strict";

function asInterval(interval) {
  if (!interval) return "–";
  const [value, low, high] = interval;
  return low == null ? fixed(value) : `${fixed(value)} [${fixed(low)}, ${fixed(high)}]`;
}

const conceptAddress = (index) => `#/concept/${index}`;
// The pole of the concept that a side of a latent goes with; null if the results do not tell.
function poleOf(concept, found, side) {
  return found.orientation == null ? null : concept.poles[(side === POSITIVE) === (found.orientation > 0) ? 1 : 0];
}

async function conceptPage(asked) {
  if (!meta.concepts.length) {
    throw new Error("This explorer was written without the results of an evaluation; give them with --results.");
  }
  const index = asked ?? 0;
  if (!(index in meta.concepts)) {
    throw new Error(`There is no such concept: they go from 0 to ${meta.concepts.length - 1}.`);
  }
  const concept = (await explorer.load("concepts"))[index];
  const [a, b] = concept.poles;
  const measured = concept.saes.flatMap((found, sae) => (found ? [{ found, sae }] : []));
  const sections = await Promise.all(measured.map(({ found, sae }) => saeOnConcept(concept, found, sae)));
  const chips = meta.concepts.map((name, n) =>
    h("a", { href: conceptAddress(n), "aria-current": n === index && "page" }, name));
  const element = h("article", { class: "page concept" },
    h("nav", { class: "chips", "aria-label": "Concepts" }, chips),
    h("h1", {}, h("span", { class: "kind" }, concept.name), `${a} (A) ↔ ${b} (B)`),
    h("p", { class: "note" }, `${concept.texts.map(whole).join(" / ")} texts to train, choose and test on; `
      + `${concept.groups} groups of test texts, which the 95 % intervals resample. Latents are chosen on train; all `
      + "numbers are on test."),
    probeTable(measured),
    sections,
    concept.cosines.length > 0 && otherConcepts(concept.cosines.slice(0, 8)));
  return { element, title: `${concept.name}: ${a} ↔ ${b}` };
}

function otherConcepts(cosines) {
  const items = cosines.map(([other, cosine]) => {
    const n = meta.concepts.indexOf(other);
    const name = n < 0 ? other : h("a", { href: conceptAddress(n) }, other);
    return h("li", {}, h("span", { class: "by" }, fixed(cosine)), name);
  });
  return h("section", { class: "linked" }, h("h3", {}, "Directions of other concepts"),
    h("p", { class: "note" }, "Cosine of the differences in means, each from A to B."), h("ul", {}, items));
}

// AUROC of every method, one column per SAE; the controls are folded away.
function probeTable(measured) {
  const methods = new Map(measured.flatMap(({ found }) => found.probes.map(([name, , control]) => [name, control])));
  if (!methods.size) return null;
  const cell = (name) => ({ found }) => {
    const interval = found.probes.find(([method]) => method === name)?.[1];
    return h("td", {}, h("span", {}, asInterval(interval)), interval && intervalBar(interval));
  };
  const rows = (control) => [...methods.keys()].filter((name) => methods.get(name) === control)
    .map((name) => h("tr", {}, h("th", { scope: "row" }, name), measured.map(cell(name))));
  const headings = ["by", ...measured.map(({ sae }) => meta.saes[sae].name)];
  return h("section", { class: "probes" }, h("h3", {}, "AUROC on test"),
    wideTable("AUROC on test", headings, rows(false)),
    [...methods.values()].some((control) => control)
      && h("details", {}, h("summary", {}, "Controls: permuted labels, an untrained SAE"),
        wideTable("AUROC of the controls", headings, rows(true))));
}

// A value with its interval between 0 and 1; the tick in the middle is chance.
function intervalBar([value, low, high]) {
  const x = (share) => 100 * Math.min(Math.max(share, 0), 1);
  const line = (attributes) => svg("line", { ...attributes, "vector-effect": "non-scaling-stroke" });
  return svg("svg", { class: "interval", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    line({ x1: 50, x2: 50, y1: 0, y2: 10, class: "zero" }),
    line({ x1: x(low ?? value), x2: x(high ?? value), y1: 5, y2: 5, class: "span" }),
    svg("rect", { x: x(value) - 1, width: 2, y: 1, height: 8 }));
}

async function saeOnConcept(concept, found, sae) {
  const data = await explorer.overview(sae);
  const count = data.scale.length;
  const latents = await Promise.all(found.latents.map((each) => explorer.latent(sae, checked(each.latent, count))));
  const { name } = meta.saes[sae];
  const steering = found.steering;
  return h("section", { class: "on-concept", "aria-label": name }, h("h2", {}, name),
    found.latents.map((each, n) => foundLatent(concept, each, latents[n], sae, data)),
    steering && steeringSection(concept, steering, data.signed,
      found.latents.find((each) => each.latent === steering.latent)));
}

function foundLatent(concept, found, latent, sae, data) {
  const column = (side) => {
    const pole = poleOf(concept, found, side);
    const name = !data.signed ? "Fires" : side === POSITIVE ? "Positive pole" : "Negative pole";
    const heading = pole ? `${name}${data.signed ? "," : ""} for ${pole}` : name;
    return poleColumn(latent, side, { short: true, shown: 3, level: "h4", heading });
  };
  return h("section", { class: "chosen", "aria-label": `Latent ${found.latent}` },
    h("h3", {}, h("a", { href: latentAddress(sae, found.latent) }, `Latent ${found.latent}`),
      ` · ${found.roles.join(", ")}`),
    figureList([
      found.auroc && ["AUROC", asInterval(found.auroc)],
      found.coverage && ["pole coverage", asInterval(found.coverage)],
      found.cosine != null && ["cosine with difference in means", fixed(found.cosine)],
      data.signed && ["two-sided", fixed(latent.two_sidedness)],
    ]),
    h("div", { class: data.signed ? "poles" : null }, (data.signed ? SIDES : [POSITIVE]).map(column)));
}

// A positive strength is recorded as towards pole B of the concept, whichever pole of the latent that is.
function steeringSection(concept, steering, signed, probed) {
  const [a, b] = concept.poles;
  const own = (strength) => {
    const its = steering.orientation * strength;
    const pole = signed ? ` (its ${its > 0 ? "positive" : "negative"} pole)` : "";
    return `strength ${withSign(number(Math.abs(its)), its > 0)} of latent ${steering.latent}${pole}`;
  };
  const turned = probed?.orientation != null && probed.orientation !== steering.orientation;
  const unmatched = () => h("span", {
    class: "by", title: "the largest strength tried: none costs as much as the others",
  }, " unmatched");
  const rows = steering.effects.map(([name, ...intervals], row) => h("tr", {}, h("th", { scope: "row" }, name),
    intervals.map((interval, n) => h("td", {}, asInterval(interval), steering.unmatched[row][n] && unmatched()))));
  const heading = (strength) => strength === 0 ? "unsteered"
    : `${withSign(Math.abs(strength), strength > 0)} towards ${strength > 0 ? b : a}: ${own(strength)}`;
  const texts = steering.texts.map(([strength, text]) =>
    h("li", {}, h("span", { class: "strength" }, heading(strength)), text));
  return h("section", { class: "steered" }, h("h3", {}, `Steering with latent ${steering.latent}`),
    h("p", { class: "note" }, `Positive strengths are towards ${b}: +1 is ${own(1)}, which adds a code of `
      + `${number(steering.scale)}.${turned ? ` In the texts, though, that side goes with ${a}.` : ""}`),
    doseResponse(concept, steering),
    wideTable("Effects at matched cost", ["at matched cost", `log-odds to ${a}`, `log-odds to ${b}`, "symmetry"], rows),
    texts.length > 0 && h("details", {}, h("summary", {}, "One generated text at each strength"),
      h("p", { class: "note" }, "After the prompt ", h("q", {}, steering.prompt)),
      h("ol", { class: "by-strength" }, texts)));
}

// An evaluation's findings about one latent, for its own page.
async function conceptsOfLatent(sae, index) {
  if (!meta.concepts.length) return null;
  const concepts = await explorer.load("concepts");
  const rows = concepts.flatMap((concept, n) => (concept.saes[sae]?.latents ?? [])
    .filter((each) => each.latent === index)
    .map((each) => h("tr", {}, h("th", { scope: "row" }, h("a", { href: conceptAddress(n) }, concept.name)),
      h("td", { class: "words" }, each.roles.join(", ")),
      SIDES.map((side) => h("td", {}, poleOf(concept, each, side) ?? "–")),
      h("td", {}, asInterval(each.auroc)), h("td", {}, asInterval(each.coverage)), h("td", {}, fixed(each.cosine)))));
  if (!rows.length) return null;
  return h("section", {}, h("h3", {}, "Concepts that it was chosen for"), wideTable("Concepts", [
    "concept", "chosen as", "negative side for", "positive side for", "AUROC", "pole coverage",
    "cosine with difference in means",
  ], rows));
}
