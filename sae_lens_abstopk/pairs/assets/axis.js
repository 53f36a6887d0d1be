// The page of one axis: its poles, which is preferred, and its strongest pairs with the negative side left.
"use strict";

const FOLDED = { characters: 1000, lines: 14 }; // longer texts are folded
const FOLDED_PROMPT = { characters: 330, lines: 4 };

const points = (effect) => withSign(fixed(Math.abs(100 * effect), 1), effect >= 0);
const LEAST_Q = 0.001;
const significance = (q) => (q != null && q < LEAST_Q ? `under ${LEAST_Q}` : number(q, 2));
const signed = (rho) => withSign(fixed(Math.abs(rho)), rho >= 0);

// Which pole is preferred, and whether that is sure.
function verdict(axis) {
  if (!meta.aucs) return null;
  if (!axis.effect) return h("p", {}, "Too few preferences to say which pole is preferred.");
  const [value, low, high] = axis.effect.map((each) => each && 100 * each);
  const side = value < 0 ? NEGATIVE : POSITIVE;
  const interval = low == null ? null : value < 0 ? [-value, -high, -low] : [value, low, high];
  return h("p", { class: "verdict" },
    h("b", {}, axis.confirmed ? ["The ", poleName(side), " is preferred."] : "Not confirmed."),
    " A text with one standard deviation more of ", axis.confirmed ? "it" : ["the ", poleName(side)],
    ` is preferred ${fixed(Math.abs(value), 1)} percentage points more often`,
    interval && ` (${ends(interval, (each) => fixed(each, 1))})`,
    ", with all other axes and length held equal.");
}

// How true the name is.
function fidelity(axis) {
  if (!axis.named) return axis.relation ? null : h("p", {}, "Unnamed: no marker or word predicts this axis for sure.");
  const [rho] = axis.fidelity;
  return h("p", { class: "verdict" }, h("b", {}, `Fidelity ${fixed(rho)}`),
    ` (${ends(axis.fidelity, fixed)}): rank correlation of what the texts have by the name with the axis, in held-out pairs.`);
}

const relation = (axis) => axis.relation && h("p", { class: "verdict" },
  h("b", {}, `The poles are ${axis.relation}`), h("span", { class: "note" }, `: ${meta.judge}.`));

function disagreement({ q, found, groups }) {
  const rates = groups.map(([name, rate]) => `${share(rate[0])} (${ends(rate, share)}) in ${visible(name)}`);
  return h("p", { class: found ? "verdict" : "note" },
    found ? h("b", {}, "Groups disagree") : "Groups agree, as far as these pairs tell",
    ` (q: ${significance(q)}): the positive pole wins ${rates.join(", ")}.`);
}

function markers(axis) {
  const rows = axis.markers.map(([name, rho]) => h("tr", {},
    h("th", { scope: "row" }, name), h("td", {}, sideBar([rho], 1)), h("td", {}, signed(rho))));
  const strongest = axis.markers.slice(0, 3).map(([name, rho]) => `${name} ${signed(rho)}`);
  return rows.length > 0 && h("details", { class: "markers" },
    h("summary", {}, h("b", {}, "Markers "), h("span", { class: "note" }, strongest.join(", "))),
    h("table", { class: "numbers" }, h("caption", { class: "note" }, "Spearman’s ρ with markers of the texts"), rows));
}

const poleColumn = (axis, side) =>
  h("section", { class: `pole ${SIDE_NAMES[side]}`, "aria-label": `${SIDE_NAMES[side]} pole` },
    h("h2", { class: "name" }, h("span", { class: "side" }, `${side === POSITIVE ? "Positive" : "Negative"} pole`)),
    axis.words[side].length > 0
      ? h("ul", { class: "words" }, axis.words[side].map((word) => h("li", {}, poleText(side, word))))
      : h("p", { class: "nothing" }, "No content word tells its texts from the others."));

// Of A and B, the number of the text with more of a pole.
const textOf = (side, code) => ((code > 0) === (side === POSITIVE) ? 0 : 1);
const isCompared = (pair) => pair.texts.some((parts) => parts.length > 1);

// A function that makes nodes of text n of a pair, with the words of the poles coloured that this text has more often
// than the other one, among the words that differ; all differ in texts that were not compared.
function colouring(axis, pair) {
  const sides = new Map(SIDES.flatMap((side) => axis.words[side].map((word) => [word.toLowerCase(), side])));
  if (!sides.size) return (n, text) => text;
  const pattern = [...sides.keys()].sort((a, b) => b.length - a.length).map((word) => {
    const escaped = word.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&").replaceAll("'", "['’]");
    // letters without case are mostly of scripts that do not end words by spaces
    return /\p{Lo}/u.test(word) ? escaped : `(?<![\\p{L}\\p{N}])${escaped}(?![\\p{L}\\p{N}])`;
  }).join("|");
  const split = (text) => text.split(new RegExp(`(${pattern})`, "giu"));
  const known = (word) => word.toLowerCase().replaceAll("’", "'");
  const counts = pair.texts.map((parts) => {
    const words = parts.filter((part, at) => at % 2 || !isCompared(pair))
      .flatMap((part) => split(part).filter((word, at) => at % 2).map(known));
    return (word) => words.filter((each) => each === word).length;
  });
  return (n, text) => split(text).map((part, at) => (at % 2 && counts[n](known(part)) > counts[1 - n](known(part))
    ? h("span", { class: `${SIDE_NAMES[sides.get(known(part))]}-shade` }, part) : part));
}

// The nodes of both texts of a pair, with words that differ marked, and words of the poles among them coloured.
function textNodes(axis, pair) {
  const coloured = colouring(axis, pair), compared = isCompared(pair);
  return pair.texts.map((parts, n) => parts.map(lines).map((part, at) =>
    (at % 2 ? h("mark", { class: "differs" }, coloured(n, part)) : compared ? part : coloured(n, part))));
}

// Parts of both texts, cut to about `most` characters around the first difference.
function cutTexts(pair, most) {
  const before = pair.texts.flatMap((parts) => (parts.length > 1 ? [...parts[0]].length : []));
  const start = before.length ? Math.max(0, Math.min(...before) - Math.floor(most / 4)) : 0;
  return pair.texts.map((parts) => {
    let at = 0;
    const cut = parts.map((part) => {
      const signs = [...part], from = Math.max(0, start - at), to = Math.max(0, start + most - at);
      at += signs.length;
      return signs.slice(from, to).join("");
    });
    if (start > 0) cut[0] = cut[0].replace(/^(\S*\s)?/, "… ");
    if (at <= start + most) return cut;
    const last = cut.findLastIndex((part) => part !== "");
    return cut.slice(0, last + 1).with(last, `${cut[last].replace(/(\s\S*)?$/, "")} …`);
  });
}

// The clearest example of an axis: for each side the nodes of a short text, with the words that differ in its colour.
function clearest(axis, most) {
  if (axis.clearest == null) return null;
  const [place, code] = axis.examples[axis.clearest], pair = meta.pairs[place];
  const texts = cutTexts(pair, most), coloured = colouring(axis, pair), compared = isCompared(pair);
  return SIDE_NAMES.map((name, side) => {
    const n = textOf(side, code);
    if (texts[n].join("") === "") return h("span", { class: "nothing" }, "(empty)");
    return texts[n].map(lines).map((part, at) =>
      (at % 2 ? h("mark", { class: `${name}-shade` }, part) : compared ? part : coloured(n, part)));
  });
}

const cutOff = (count) =>
  count > 0 && h("span", { class: "nothing" }, `… ${whole(count)} more characters, which this page leaves out`);
const isLong = (text, most) => text.length > most.characters || text.split("\n").length > most.lines;

function pairItem(axis, [place, code]) {
  const pair = meta.pairs[place], nodes = textNodes(axis, pair);
  let folds = false;
  const block = (text, most, leftOut, nodes) => {
    const long = isLong(text, most) || leftOut > 0;
    folds ||= long;
    return h("div", { class: `text${long ? " long" : ""}`, dir: "auto" },
      text === "" ? h("span", { class: "nothing" }, "(empty)") : nodes, cutOff(leftOut));
  };
  const column = (side) => {
    const n = textOf(side, code);
    return h("div", { class: `text-of ${SIDE_NAMES[side]}` },
      h("p", { class: "note" }, poleText(side, `more of the ${SIDE_NAMES[side]} pole`),
        h("span", { class: "by" }, visible(pair.columns[n])),
        pair.preferred === (n === 0 ? 1 : -1) && h("span", { class: "badge preferred" }, "✓ preferred"),
        pair.preferred === 0 && h("span", { class: "badge" }, "tie")),
      block(pair.texts[n].join(""), FOLDED, pair.leftOut[n], nodes[n]));
  };
  const turns = pair.prompt.map(([role, text, leftOut]) => block(text, FOLDED_PROMPT, leftOut,
    [(pair.prompt.length > 1 || role !== "user") && h("b", {}, `${visible(role)}: `), lines(text)].filter(Boolean)));
  const sides = SIDES.map(column);
  const item = h("li", { class: "folded" },
    h("p", { class: "note" },
      `Row ${pair.row}, code ${number(Math.abs(code))}${pair.group ? `, ${visible(pair.group)}` : ""}`),
    turns.length > 0 && h("div", { class: "prompt" }, turns),
    h("div", { class: "sides" }, sides),
    folds && h("button", { type: "button", class: "plain", "aria-expanded": "false", onclick: ({ target }) => {
      const folded = item.classList.toggle("folded");
      target.textContent = folded ? "Show all" : "Show less";
      target.setAttribute("aria-expanded", String(!folded));
    } }, "Show all"));
  return item;
}

function axisPage(axis) {
  return h("article", { class: "page" },
    h("div", { class: "title" },
      steps(axis, "all axes"),
      h("h1", {}, h("span", { class: "kind" }, `Axis ${axis.latent}`), poleText(NEGATIVE, axis.names[NEGATIVE]),
        h("span", { class: "versus" }, "↔"), poleText(POSITIVE, axis.names[POSITIVE]))),
    h("div", { class: "verdicts" },
      verdict(axis), fidelity(axis), relation(axis), axis.disagreement && disagreement(axis.disagreement)),
    figureList([
      meta.aucs && ["effect, points", withEnds(axis.effect, points)],
      meta.aucs && ["win rate of the positive pole", withEnds(axis.winRate, share)],
      meta.aucs && ["q", significance(axis.q)],
      ["active on", share(axis.active)],
      axis.stability != null && ["in other seeds", share(axis.stability)],
    ]),
    h("div", { class: "poles" }, SIDES.map((side) => poleColumn(axis, side))),
    steerPanel({ latent: axis.latent, scale: axis.scale, pole: (side) => poleText(side, axis.names[side]) }),
    axis.histogram && histogram(axis.histogram[0], axis.histogram.slice(1), { items: "held-out pairs" }),
    markers(axis),
    h("section", { class: "examples" }, h("h2", {}, "Pairs, from the strongest to the weakest"),
      h("p", { class: "note" }, "One pair a prompt: the strongest of each pole, and some of its middle and weak codes. "
        + "The text with more of the positive pole is the second. ", h("mark", { class: "differs" }, "Words that differ"),
        " are marked if the texts share at least half of theirs; ", h("span", { class: "negative-shade" }, "words"), " ",
        h("span", { class: "positive-shade" }, "of the poles"), " are coloured where one text has more of them."),
      axis.examples.length === 0 ? h("p", { class: "nothing" }, "The axis is active on no pair.")
        : h("ol", {}, axis.examples.map((example) => pairItem(axis, example)))));
}
