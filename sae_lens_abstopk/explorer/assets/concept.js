// The page of one concept of an evaluation: the latents that were found for it, how well they do, and how they steer.
"use strict";

const asInterval = (interval) => interval
  ? `${fixed(interval[0])}${interval[1] == null ? "" : ` [${fixed(interval[1])}, ${fixed(interval[2])}]`}` : "–";

const conceptAddress = (index) => `#/concept/${index}`;
// Which pole of the concept a side of a latent goes with; null where the results do not say.
const poleOf = (concept, found, side) => found.orientation == null ? null : concept.poles[(side === POSITIVE) === (found.orientation > 0) ? 1 : 0];

async function conceptPage(asked) {
  if (!meta.concepts.length) throw new Error("This explorer was written without the results of an evaluation; give them with --results.");
  const index = asked ?? 0;
  if (!(index in meta.concepts)) throw new Error(`There is no such concept: they go from 0 to ${meta.concepts.length - 1}.`);
  const concept = (await explorer.load("concepts"))[index];
  const [a, b] = concept.poles;
  const measured = concept.saes.flatMap((found, sae) => (found ? [{ found, sae }] : []));
  const sections = await Promise.all(measured.map(({ found, sae }) => saeOnConcept(concept, found, sae)));
  const element = h("article", { class: "page concept" },
    h("nav", { class: "chips", "aria-label": "Concepts" }, meta.concepts.map((name, n) =>
      h("a", { href: conceptAddress(n), "aria-current": n === index && "page" }, name))),
    h("h1", {}, h("span", { class: "kind" }, concept.name), `${a} (A) ↔ ${b} (B)`),
    h("p", { class: "note" }, `${concept.texts.map((n) => n.toLocaleString("en-US")).join(" / ")} texts to train, choose and test on; ${concept.groups} groups of test texts, which the 95 % intervals resample. Latents are chosen on train, every number is of test.`),
    probeTable(measured),
    sections,
    concept.cosines.length > 0 && h("section", { class: "linked" }, h("h3", {}, "Directions of other concepts"),
      h("p", { class: "note" }, "Cosine of the differences in means, each from A to B."),
      h("ul", {}, concept.cosines.slice(0, 8).map(([other, cosine]) => {
        const n = meta.concepts.indexOf(other);
        return h("li", {}, h("span", { class: "by" }, fixed(cosine)), n < 0 ? other : h("a", { href: conceptAddress(n) }, other));
      }))));
  return { element, title: `${concept.name}: ${a} ↔ ${b}` };
}

// AUROC of every method, one column an SAE; the controls are folded away.
function probeTable(measured) {
  const methods = new Map(measured.flatMap(({ found }) => found.probes.map(([name, , control]) => [name, control])));
  if (!methods.size) return null;
  const table = (control, label) => h("div", { class: "wide-table", tabindex: 0, role: "region", "aria-label": label }, h("table", { class: "numbers" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "by"), measured.map(({ sae }) => h("th", { scope: "col" }, meta.saes[sae].name)))),
    h("tbody", {}, [...methods.keys()].filter((name) => methods.get(name) === control).map((name) => h("tr", {}, h("th", { scope: "row" }, name),
      measured.map(({ found }) => {
        const interval = found.probes.find(([method]) => method === name)?.[1];
        return h("td", {}, h("span", {}, asInterval(interval)), interval && intervalBar(interval));
      }))))));
  return h("section", { class: "probes" }, h("h3", {}, "AUROC on test"), table(false, "AUROC on test"),
    [...methods.values()].some((control) => control) && h("details", {}, h("summary", {}, "Controls: permuted labels, an untrained SAE"), table(true, "AUROC of the controls")));
}

// A value with its interval between 0 and 1; the tick in the middle is chance.
function intervalBar([value, low, high]) {
  const x = (share) => 100 * Math.min(Math.max(share, 0), 1);
  return svg("svg", { class: "interval", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("line", { x1: 50, x2: 50, y1: 0, y2: 10, class: "zero", "vector-effect": "non-scaling-stroke" }),
    svg("line", { x1: x(low ?? value), x2: x(high ?? value), y1: 5, y2: 5, class: "span", "vector-effect": "non-scaling-stroke" }),
    svg("rect", { x: x(value) - 1, width: 2, y: 1, height: 8 }));
}

async function saeOnConcept(concept, found, sae) {
  const data = await explorer.overview(sae);
  const latents = await Promise.all(found.latents.map((each) => explorer.latent(sae, checked(each.latent, data.scale.length))));
  return h("section", { class: "on-concept", "aria-label": meta.saes[sae].name }, h("h2", {}, meta.saes[sae].name),
    found.latents.map((each, n) => foundLatent(concept, each, latents[n], sae, data)),
    found.steering && steeringSection(concept, found.steering, data.signed, found.latents.find((each) => each.latent === found.steering.latent)));
}

function foundLatent(concept, found, latent, sae, data) {
  const figures = [found.auroc && ["AUROC", asInterval(found.auroc)], found.coverage && ["pole coverage", asInterval(found.coverage)],
    found.cosine != null && ["cosine with difference in means", fixed(found.cosine)], data.signed && ["two-sided", fixed(latent.two_sidedness)]].filter(Boolean);
  return h("section", { class: "chosen", "aria-label": `Latent ${found.latent}` },
    h("h3", {}, h("a", { href: latentAddress(sae, found.latent) }, `Latent ${found.latent}`), ` · ${found.roles.join(", ")}`),
    h("dl", { class: "figures" }, figures.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    h("div", { class: data.signed ? "poles" : null }, (data.signed ? SIDES : [POSITIVE]).map((side) => {
      const pole = poleOf(concept, found, side);
      return poleColumn(latent, side, { short: true, shown: 3, level: "h4", heading: `${!data.signed ? "Fires" : side === POSITIVE ? "Positive pole" : "Negative pole"}${pole ? `${data.signed ? "," : ""} for ${pole}` : ""}` });
    })));
}

// Strengths are recorded as towards pole B of the concept, negative ones towards A; which pole of the latent that is, is another matter.
function steeringSection(concept, steering, signed, probed) {
  const [a, b] = concept.poles;
  const own = (strength) => {
    const its = steering.orientation * strength;
    return `strength ${its > 0 ? "+" : "−"}${number(Math.abs(its))} of latent ${steering.latent}${signed ? ` (its ${its > 0 ? "positive" : "negative"} pole)` : ""}`;
  };
  const turned = probed?.orientation != null && probed.orientation !== steering.orientation;
  return h("section", { class: "steered" }, h("h3", {}, `Steering with latent ${steering.latent}`),
    h("p", { class: "note" }, `Positive strengths are towards ${b}: +1 is ${own(1)}, which adds a code of ${number(steering.scale)}.${turned ? ` In the texts, though, that side goes with ${a}.` : ""}`),
    doseResponse(concept, steering),
    h("div", { class: "wide-table", tabindex: 0, role: "region", "aria-label": "Effects at matched cost" }, h("table", { class: "numbers" },
      h("thead", {}, h("tr", {}, ["at matched cost", `log-odds to ${a}`, `log-odds to ${b}`, "symmetry"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, steering.effects.map(([name, ...intervals], row) => h("tr", {}, h("th", { scope: "row" }, name),
        intervals.map((interval, n) => h("td", {}, asInterval(interval), steering.unmatched[row][n] && h("span", { class: "by", title: "the largest strength tried: none costs as much as the others" }, " unmatched")))))))),
    steering.texts.length > 0 && h("details", {}, h("summary", {}, "One generated text at each strength"),
      h("p", { class: "note" }, "After the prompt ", h("q", {}, steering.prompt)),
      h("ol", { class: "by-strength" }, steering.texts.map(([strength, text]) =>
        h("li", {}, h("span", { class: "strength" }, strength === 0 ? "unsteered" : `${strength > 0 ? "+" : "−"}${Math.abs(strength)} towards ${strength > 0 ? b : a}: ${own(strength)}`), text)))));
}

// What an evaluation says of one latent, on its own page.
async function conceptsOfLatent(sae, index) {
  if (!meta.concepts.length) return null;
  const concepts = await explorer.load("concepts");
  const found = concepts.flatMap((concept, n) => (concept.saes[sae]?.latents ?? []).filter((each) => each.latent === index).map((each) => ({ concept, n, each })));
  if (!found.length) return null;
  const rows = found.map(({ concept, n, each }) => h("tr", {}, h("th", { scope: "row" }, h("a", { href: conceptAddress(n) }, concept.name)),
    h("td", { class: "words" }, each.roles.join(", ")), h("td", {}, poleOf(concept, each, NEGATIVE) ?? "–"), h("td", {}, poleOf(concept, each, POSITIVE) ?? "–"),
    h("td", {}, asInterval(each.auroc)), h("td", {}, asInterval(each.coverage)), h("td", {}, fixed(each.cosine))));
  return h("section", {}, h("h3", {}, "Concepts that it was chosen for"), h("div", { class: "wide-table", tabindex: 0, role: "region", "aria-label": "Concepts" },
    h("table", { class: "numbers" }, h("thead", {}, h("tr", {}, ["concept", "chosen as", "negative side for", "positive side for", "AUROC", "pole coverage", "cosine with difference in means"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows))));
}
