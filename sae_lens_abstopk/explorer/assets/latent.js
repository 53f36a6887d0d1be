// The page of one latent, and the page that puts it beside the directions of another SAE that share its axis.
"use strict";

const HERE = OF_ROWS ? "these rows" : "this text";
const RANKED = "By strength, above this share of the firings";

// A context with its tokens coloured. Spaces before a word are not coloured, so that lines break between words.
function context([tokens, codes, at, below], { strings, strongest }, ranked) {
  const value = h("p", { class: "value" }, number(codes[at]), ranked && h("span", {}, `${Math.floor(100 * below)} %`));
  if (OF_ROWS) return h("li", { class: "context" }, h("p", { class: "text", dir: "auto" }, visible(strings[tokens[0]])), value);
  const words = tokens.map((id, n) => {
    const [space, word] = splitSpaces(visible(n ? strings[id] : strings[id].trimStart() || strings[id]));
    const code = codes[n];
    const shade = code && `${code > 0 ? "positive" : "negative"}-shade`;
    if (!shade && n !== at) return space + word;
    const attributes = {
      class: [shade, n === at && "here"].filter(Boolean).join(" "),
      title: code ? number(code) : null,
      style: code ? `--step: ${Math.ceil(Math.min(Math.abs(code) / strongest, 1) * 100)}` : null,
    };
    return [word && space, h(n === at ? "mark" : "span", attributes, word || space)];
  });
  return h("li", { class: "context" }, h("p", { class: "text", dir: "auto" }, words), value);
}

const contextList = (contexts, latent, ranked) =>
  h("ol", { class: "contexts" }, contexts.map((each) => context(each, latent, ranked)));

function tokenList(title, tokens, strings, show) {
  return tokens.length > 0 && h("div", { class: "tokens" }, h("h3", {}, title),
    h("ul", {}, tokens.map(([id, ...values]) =>
      h("li", {}, token(strings[id]), " ", h("span", { class: "by" }, show(...values))))));
}

function firesOn(pole, strings) {
  const sample = `in a sample of ${pole.sampled_firings} firing${pole.sampled_firings === 1 ? "" : "s"}`;
  const title = OF_ROWS ? `Words that its rows share and others lack, with their share of energy (sum of squared codes) ${sample}`
    : `Tokens by share of energy (sum of squared codes), ${sample}`;
  return tokenList(title, pole.tokens, strings,
    (share, count) => `${share < 0.01 ? "<1" : Math.round(100 * share)} %, ${count} ×`);
}

const effectList = (title, effects, strings) =>
  tokenList(title, effects, strings, (by) => withSign(fixed(Math.abs(by), 1), by >= 0));

// Firings by strength, unless every row that the pole fires on is among the strongest.
const byStrength = (pole) => (OF_ROWS && pole.fires <= pole.strongest.length ? [] : pole.sampled);

function poleColumn(latent, side, { short = false, shown = 5, level = "h2", heading, link } = {}) {
  const pole = latent.poles[side];
  const name = SIDE_NAMES[side];
  const d = side === POSITIVE ? "+d" : "−d";
  const label = visible(pole.label);
  const within = pole.fires ? `; 99 % of its codes are within ${number(pole.scale)}` : "";
  const silent = pole.closed
    ? "Closed: this latent has one side by construction." : `Never fires on this side in ${HERE}.`;
  const sampled = byStrength(pole);
  const body = pole.fires === 0 ? h("p", { class: "nothing" }, silent) : [
    !short && firesOn(pole, latent.strings),
    !short && h("h3", {}, "Strongest"),
    contextList(short ? pole.strongest.slice(0, shown) : pole.strongest, latent),
    !short && sampled.length > 0 && [h("h3", {}, RANKED), contextList(sampled, latent, true)],
  ];
  return h("section", { class: `pole ${name}`, "aria-label": heading ?? `${name} pole` },
    h(level, { class: "name" },
      h("span", { class: "side" }, heading ?? `${side === POSITIVE ? "Positive" : "Negative"} pole`),
      h("span", { class: `${name}-text label` }, link ? h("a", { href: link }, label) : label)),
    !pole.closed && h("p", { class: "note" },
      `fires on ${percent(pole.density)} of ${UNIT} (${whole(pole.fires)})${within}`),
    body,
    !short && effectList(`${d} promotes`, pole.promoted, latent.strings),
    !short && effectList(`${d} demotes`, pole.demoted, latent.strings));
}

// The only pole of a latent without a sign, with both lists of contexts side by side.
function onePole(latent) {
  const pole = latent.poles[POSITIVE];
  if (!pole.fires) return h("p", { class: "nothing" }, `Never fires in ${HERE}.`);
  const column = (title, contexts, ranked) => contexts.length > 0
    && h("section", { class: "pole positive", "aria-label": title },
      h("h2", {}, title), contextList(contexts, latent, ranked));
  return [
    firesOn(pole, latent.strings),
    h("div", { class: "poles" }, column("Strongest", pole.strongest), column(RANKED, byStrength(pole), true)),
    effectList("Promotes", pole.promoted, latent.strings),
    effectList("Demotes", pole.demoted, latent.strings),
  ];
}

// Labels of both poles of a latent.
const labelPair = (data, index) => h("span", { class: "pair" },
  data.signed && [poleText(NEGATIVE, data.labels[NEGATIVE][index]), " ↔ "],
  poleText(POSITIVE, data.labels[POSITIVE][index]));

function linkedList(title, note, sae, data, items, describe) {
  const rows = items.map((item) => h("li", {}, h("a", { href: latentAddress(sae, item[0]) }, String(item[0])), " ",
    labelPair(data, item[0]), h("span", { class: "by" }, describe(item))));
  return h("section", { class: "linked" }, h("h3", {}, title), h("p", { class: "note" }, note),
    rows.length === 0 ? h("p", { class: "nothing" }, "None.") : h("ul", {}, rows));
}

// Continuations with the latent pushed to either side, by strength.
function steeredTexts({ steered, strings }) {
  const item = (text, n) => {
    const strength = meta.strengths[n];
    const side = strength === 0 ? "" : strength > 0 ? "positive" : "negative";
    const shown = strength === 0 ? "unsteered" : withSign(Math.abs(strength), strength > 0);
    return h("li", { class: side || null }, h("span", { class: `strength ${side && `${side}-text`}` }, shown),
      strings[text].trimStart() || "(ended at once)");
  };
  return h("section", { class: "steered" }, h("h3", {}, "Steered"),
    h("p", { class: "note" }, "Greedy continuations with strength × scale of the latent added on every token that the "
      + "SAE was trained on: the first one, special ones and those of very large norm stay as they are if training "
      + "left them out."),
    steered.map(([prompt, texts]) =>
      h("div", {}, h("p", { class: "prompt" }, strings[prompt]), h("ol", {}, texts.map(item)))));
}

function titleRow(sae, index, data, address, latent, extra) {
  const step = (by, rel, text, key) => {
    const target = beside(sae, index, by, data.scale.length);
    return target === null
      ? h("span", { class: "step off" }, text)
      : h("a", { class: "step", rel, href: address(target), "aria-keyshortcuts": key }, text);
  };
  const label = (side) => poleText(side, latent.poles[side].label);
  return h("div", { class: "title" },
    h("div", { class: "steps" },
      step(-1, "prev", "← previous", "ArrowLeft"), step(1, "next", "next →", "ArrowRight"), extra),
    h("h1", {}, h("span", { class: "kind" }, `Latent ${index}`),
      data.signed && [label(NEGATIVE), h("span", { class: "versus" }, "↔")], label(POSITIVE)));
}

async function latentPage(sae, asked) {
  const data = await explorer.overview(sae);
  const index = checked(asked, data.scale.length);
  const latent = await explorer.latent(sae, index);
  const concepts = await conceptsOfLatent(sae, index);
  const fires = (side) => (latent.poles[side].closed ? "closed" : percent(latent.poles[side].density));
  const code = meta.saes[sae].snippet.replaceAll("{latent}", index).replaceAll("{scale}", latent.scale || "1.0");
  const d = data.signed ? "+d" : "d";
  const cosine = (item) => fixed(item[1]);
  const element = h("article", { class: "page" },
    titleRow(sae, index, data, (target) => latentAddress(sae, target), latent,
      data.comparedWith && sae === 0
        && h("a", { class: "step", href: `#/compare/${index}` }, `beside ${data.comparedWith}`)),
    figureList([
      data.signed && ["two-sided", fixed(latent.two_sidedness)],
      data.signed && ["− fires", fires(NEGATIVE)],
      [data.signed ? "+ fires" : "fires", fires(POSITIVE)],
      ["scale", number(latent.scale)],
      ["decoder norm", number(latent.norm)],
      latent.relation && ["judged", latent.relation],
    ]),
    latent.limit > 0 && histogram(latent.limit, latent.poles.map((pole) => pole.histogram),
      { items: "firings", sides: data.signed ? SIDES : [POSITIVE] }),
    steerPanel({ sae, latent: index, scale: latent.scale, level: "h3",
      pole: (side) => poleText(side, latent.poles[side].label) }),
    concepts,
    data.signed ? h("div", { class: "poles" }, SIDES.map((side) => poleColumn(latent, side))) : onePole(latent),
    h("div", { class: "three" },
      linkedList("Nearest decoders", `cosine with ${d}`, sae, data, latent.aligned, cosine),
      linkedList("Most opposed decoders", `cosine with ${d}; below −0.7 the two are an antipodal pair`,
        sae, data, latent.opposed, cosine),
      linkedList("On together", `overlap of firings${data.signed ? ", and how often on the same side" : ""}, on `
        + `${data.cofiringTokens < data.tokens ? "a sample of " : ""}${whole(data.cofiringTokens)} ${UNIT}; at least 5 `
        + "times together", sae, data, latent.cofiring,
        (item) => `${fixed(item[1])}${data.signed ? `, ${percent(item[2])} same side` : ""}`)),
    latent.steered.length > 0 && steeredTexts(latent),
    h("section", { class: "snippet" }, h("h3", {}, OF_ROWS ? "Load" : "Load and steer"),
      h("button", { type: "button", onclick: (event) => copy(code, event.target) }, "Copy code"),
      h("pre", { tabindex: 0 }, code)));
  const labels = (data.signed ? SIDES : [POSITIVE]).map((side) => latent.poles[side].label);
  return { element, title: `${index}: ${labels.join(" ↔ ")}` };
}

async function comparePage(asked) {
  if (meta.saes.length < 2) throw new Error("This explorer holds one SAE, so there is nothing to compare it with.");
  const data = await explorer.overview(0);
  const index = checked(asked ?? 0, data.scale.length);
  const latent = await explorer.latent(0, index);
  const { signed } = await explorer.overview(1);
  const [ours, theirs] = meta.saes.map((each) => each.name);
  const others = await Promise.all(SIDES.map((side) => explorer.latent(1, latent.poles[side].match[0])));
  const other = (n) => {
    const side = SIDES[n];
    const [match, cosine, pole] = latent.poles[side].match;
    const d = side === POSITIVE ? "+d" : "−d";
    const which = signed ? `, its ${SIDE_NAMES[pole]} pole` : "";
    const heading = `${theirs} ${match}, cosine ${fixed(cosine)} with ${d}${which}`;
    return poleColumn(others[n], pole, { short: true, link: latentAddress(1, match), heading });
  };
  const own = (side) => poleColumn(latent, side, { short: true, heading: `${ours}, ${SIDE_NAMES[side]} pole` });
  const element = h("article", { class: "page" },
    titleRow(0, index, data, (target) => `#/compare/${target}`, latent,
      h("a", { class: "step", href: latentAddress(0, index) }, `latent ${index} alone`)),
    h("p", { class: "note" }, `In the middle, both poles of one latent of ${ours}; outside, the directions of `
      + `${theirs} nearest to each.`),
    h("div", { class: "four" }, other(0), SIDES.map(own), other(1)));
  return { element, title: `${index} beside ${theirs}` };
}
