// The page of one latent, and the page that puts it beside the directions of another SAE that share its axis.
"use strict";

// A context with its tokens coloured; the space before a word stays outside its colour, so that lines break between words.
function context([tokens, codes, at, below], { strings, strongest }, ranked) {
  return h("li", { class: "context" },
    h("p", { class: "text", dir: "auto" }, tokens.map((id, n) => {
      const [, space, word] = /^( *)([^]*)$/.exec(visible(n ? strings[id] : strings[id].trimStart() || strings[id]));
      const written = codes[n];
      const name = [written && `${written > 0 ? "positive" : "negative"}-shade`, n === at && "here"].filter(Boolean).join(" ");
      if (!name) return space + word;
      const its = { class: name, title: written ? number(written) : null, style: written ? `--step: ${Math.ceil(Math.min(Math.abs(written) / strongest, 1) * 100)}` : null };
      return [word && space, h(n === at ? "mark" : "span", its, word || space)];
    })),
    h("p", { class: "value" }, number(codes[at]), ranked && h("span", {}, `${Math.floor(100 * below)} %`)));
}

// A token by itself: most begin with a space, which is no padding.
function token(text) {
  const [, spaces, rest] = /^( *)([^]*)$/.exec(visible(text));
  return h("span", { class: "token" }, spaces && h("span", { class: "by" }, "␣".repeat(spaces.length)), rest);
}

function tokenList(title, tokens, strings, show) {
  return tokens.length > 0 && h("div", { class: "tokens" }, h("h3", {}, title),
    h("ul", {}, tokens.map(([id, ...values]) => h("li", {}, token(strings[id]), " ", h("span", { class: "by" }, show(...values))))));
}

const firesOn = (pole, strings) => tokenList(
  `Tokens by share of energy (sum of squared codes), in a sample of ${pole.sampled_firings} firing${pole.sampled_firings === 1 ? "" : "s"}`,
  pole.tokens, strings, (share, count) => `${share < 0.01 ? "<1" : Math.round(100 * share)} %, ${count} ×`);

const signedNumber = (value) => `${value < 0 ? "−" : "+"}${fixed(Math.abs(value), 1)}`;

function poleColumn(latent, side, { short = false, shown = 5, level = "h2", heading, link } = {}) {
  const pole = latent.poles[side];
  const name = SIDE_NAMES[side];
  const d = side === POSITIVE ? "+d" : "−d";
  const contexts = (list, ranked) => h("ol", { class: "contexts" }, list.map((each) => context(each, latent, ranked)));
  const body = pole.fires === 0
    ? h("p", { class: "nothing" }, pole.closed ? "Closed: this latent has one side by construction." : "Never fires on this side in this text.")
    : [
      !short && firesOn(pole, latent.strings),
      !short && h("h3", {}, "Strongest"), contexts(short ? pole.strongest.slice(0, shown) : pole.strongest),
      !short && pole.sampled.length > 0 && [h("h3", {}, "By strength, above this share of the firings"), contexts(pole.sampled, true)],
    ];
  return h("section", { class: `pole ${name}`, "aria-label": heading ?? `${name} pole` },
    h(level, { class: "name" }, h("span", { class: "side" }, heading ?? `${side === POSITIVE ? "Positive" : "Negative"} pole`), h("span", { class: `${name}-text label` }, link ? h("a", { href: link }, visible(pole.label)) : visible(pole.label))),
    !pole.closed && h("p", { class: "note" }, `fires on ${percent(pole.density)} of tokens (${pole.fires.toLocaleString("en-US")})${pole.fires ? `; 99 % of its codes are within ${number(pole.scale)}` : ""}`),
    body,
    !short && tokenList(`${d} promotes`, pole.promoted, latent.strings, signedNumber),
    !short && tokenList(`${d} demotes`, pole.demoted, latent.strings, signedNumber));
}

// The only pole of a latent without a sign: its contexts beside each other.
function onePole(latent) {
  const pole = latent.poles[POSITIVE];
  if (!pole.fires) return h("p", { class: "nothing" }, "Never fires in this text.");
  const column = (title, list, ranked) => list.length > 0 && h("section", { class: "pole positive", "aria-label": title }, h("h2", {}, title),
    h("ol", { class: "contexts" }, list.map((each) => context(each, latent, ranked))));
  return [firesOn(pole, latent.strings),
    h("div", { class: "poles" }, column("Strongest", pole.strongest), column("By strength, above this share of the firings", pole.sampled, true)),
    tokenList("Promotes", pole.promoted, latent.strings, signedNumber), tokenList("Demotes", pole.demoted, latent.strings, signedNumber)].filter(Boolean);
}

function linkedList(title, note, sae, data, items, describe) {
  return h("section", { class: "linked" }, h("h3", {}, title), h("p", { class: "note" }, note),
    items.length === 0 ? h("p", { class: "nothing" }, "None.") : h("ul", {}, items.map((item) => h("li", {},
      h("a", { href: latentAddress(sae, item[0]) }, String(item[0])), " ",
      h("span", { class: "pair" }, data.signed && [h("span", { class: "negative-text" }, visible(data.labels[NEGATIVE][item[0]])), " ↔ "],
        h("span", { class: "positive-text" }, visible(data.labels[POSITIVE][item[0]]))),
      h("span", { class: "by" }, describe(item))))));
}

// What the model writes with the latent pushed to either side, strength by strength.
function steeredTexts({ steered, strings }) {
  return h("section", { class: "steered" }, h("h3", {}, "Steered"),
    h("p", { class: "note" }, "Greedy continuations with strength × scale of the latent added on every token that the SAE was trained on: the first one, special ones and those of very large norm stay as they are where training left them out."),
    steered.map(([prompt, texts]) => h("div", {}, h("p", { class: "prompt" }, strings[prompt]), h("ol", {}, texts.map((text, n) => {
      const strength = meta.strengths[n];
      const side = strength < 0 ? "negative" : strength > 0 ? "positive" : "";
      return h("li", { class: side || null }, h("span", { class: `strength ${side && `${side}-text`}` }, strength > 0 ? `+${strength}` : strength ? minus(String(strength)) : "unsteered"), strings[text].trimStart() || "(ended at once)");
    })))));
}

function titleRow(sae, index, data, address, latent, extra) {
  const { signed, scale: { length: count } } = data;
  const [before, after] = [-1, 1].map((step) => beside(sae, index, step, count));
  const step = (target, rel, text) => target === null
    ? h("span", { class: "step off" }, text)
    : h("a", { class: "step", rel, href: address(target), "aria-keyshortcuts": rel === "prev" ? "ArrowLeft" : "ArrowRight" }, text);
  return h("div", { class: "title" },
    h("div", { class: "steps" }, step(before, "prev", "← previous"), step(after, "next", "next →"), extra),
    h("h1", {}, h("span", { class: "kind" }, `Latent ${index}`),
      signed && [h("span", { class: "negative-text" }, visible(latent.poles[NEGATIVE].label)), h("span", { class: "versus" }, "↔")],
      h("span", { class: "positive-text" }, visible(latent.poles[POSITIVE].label))));
}

async function latentPage(sae, asked) {
  const data = await explorer.overview(sae);
  const count = data.scale.length;
  const index = checked(asked, count);
  const latent = await explorer.latent(sae, index);
  const concepts = await conceptsOfLatent(sae, index);
  const fires = (side) => (latent.poles[side].closed ? "closed" : percent(latent.poles[side].density));
  const figures = [data.signed && ["two-sided", fixed(latent.two_sidedness)], data.signed && ["− fires", fires(NEGATIVE)], [data.signed ? "+ fires" : "fires", fires(POSITIVE)],
    ["scale", number(latent.scale)], ["decoder norm", number(latent.norm)], latent.relation && ["judged", latent.relation]].filter(Boolean);
  const code = meta.saes[sae].snippet.replaceAll("{latent}", index).replaceAll("{scale}", latent.scale || "1.0");
  const element = h("article", { class: "page" },
    titleRow(sae, index, data, (target) => latentAddress(sae, target), latent,
      data.comparedWith && sae === 0 && h("a", { class: "step", href: `#/compare/${index}` }, `beside ${data.comparedWith}`)),
    h("dl", { class: "figures" }, figures.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    latent.limit > 0 && histogram(latent, data.signed),
    concepts,
    data.signed ? h("div", { class: "poles" }, SIDES.map((side) => poleColumn(latent, side))) : onePole(latent),
    h("div", { class: "three" },
      linkedList("Nearest decoders", `cosine with ${data.signed ? "+d" : "d"}`, sae, data, latent.aligned, (item) => fixed(item[1])),
      linkedList("Most opposed decoders", `cosine with ${data.signed ? "+d" : "d"}; below −0.7 the two are an antipodal pair`, sae, data, latent.opposed, (item) => fixed(item[1])),
      linkedList("On together", `overlap of firings${data.signed ? ", and how often on the same side" : ""}, on a sample of ${data.cofiringTokens.toLocaleString("en-US")} tokens; at least 5 times together`, sae, data, latent.cofiring,
        (item) => `${fixed(item[1])}${data.signed ? `, ${percent(item[2])} same side` : ""}`)),
    latent.steered.length > 0 && steeredTexts(latent),
    h("section", { class: "snippet" }, h("h3", {}, "Load and steer"),
      h("button", { type: "button", onclick: (event) => copy(code, event.target) }, "Copy code"), h("pre", { tabindex: 0 }, code)));
  return { element, title: `${index}: ${(data.signed ? SIDES : [POSITIVE]).map((side) => latent.poles[side].label).join(" ↔ ")}` };
}

async function comparePage(asked) {
  if (meta.saes.length < 2) throw new Error("This explorer holds one SAE, so there is nothing to compare it with.");
  const data = await explorer.overview(0);
  const index = checked(asked ?? 0, data.scale.length);
  const latent = await explorer.latent(0, index);
  const { signed } = await explorer.overview(1);
  const others = await Promise.all(SIDES.map((side) => explorer.latent(1, latent.poles[side].match[0])));
  const column = (n, side) => {
    const [match, cosine, pole] = latent.poles[side].match;
    return poleColumn(others[n], pole, { short: true, link: latentAddress(1, match),
      heading: `${meta.saes[1].name} ${match}, cosine ${fixed(cosine)} with ${side === POSITIVE ? "+d" : "−d"}${signed ? `, its ${SIDE_NAMES[pole]} pole` : ""}` });
  };
  const element = h("article", { class: "page" },
    titleRow(0, index, data, (target) => `#/compare/${target}`, latent,
      h("a", { class: "step", href: latentAddress(0, index) }, `latent ${index} alone`)),
    h("p", { class: "note" }, `In the middle both poles of one latent of ${meta.saes[0].name}; outside, the directions of ${meta.saes[1].name} nearest to each.`),
    h("div", { class: "four" }, column(0, NEGATIVE), ...SIDES.map((side) => poleColumn(latent, side, { short: true, heading: `${meta.saes[0].name}, ${SIDE_NAMES[side]} pole` })), column(1, POSITIVE)));
  return { element, title: `${index} beside ${meta.saes[1].name}` };
}
