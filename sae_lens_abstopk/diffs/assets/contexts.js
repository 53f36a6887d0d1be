// Stretches of text, with the code of a latent as shading and the KL between the models as a line below.
"use strict";

const MOST_KL = 5; // nats, at which the line is widest
const NEXT_OF = ["tuned", "base"];

// The token that a model chooses next.
const nextToken = (text, n) =>
  [h("span", { class: "next" }, `${NEXT_OF[n]} `, h("span", { class: "chip" }, token(text))), " "];

// `strongest` is the code with the darkest shade.
function contextItem({ tokens, at, kl, codes, next }, strongest) {
  const words = tokens.map((text, n) => {
    const [space, word] = splitSpaces(visible(n ? text : text.trimStart() || text));
    const code = codes[n], divergence = kl[n];
    const shade = code && `${code > 0 ? "positive" : "negative"}-shade`;
    const wide = divergence != null && divergence >= 0.1;
    if (!shade && !wide && n !== at) return space + word;
    const title = [code && `code ${number(code)}`, divergence != null && `KL of the next token ${fixed(divergence)} nats`];
    const style = [
      code && `--step: ${Math.ceil(Math.min(Math.abs(code) / strongest, 1) * 100)}`,
      wide && `--kl: ${fixed(Math.min(divergence / MOST_KL, 1))}`,
    ];
    return [word && space, h(n === at ? "mark" : "span", {
      class: ["piece", shade, wide && "parts", n === at && "here"].filter(Boolean).join(" "),
      title: title.filter(Boolean).join(", ") || null,
      style: style.filter(Boolean).join("; ") || null,
    }, word || space)];
  });
  const numbers = [codes.length > 0 && `code ${number(codes[at])}`, kl[at] != null && `KL ${fixed(kl[at])}`];
  return h("li", { class: "context" },
    h("div", {}, h("p", { class: "text", dir: "auto" }, words),
      h("p", { class: "note" }, "after the framed token: ",
        next[0] === next[1] ? ["both models ", h("span", { class: "chip" }, token(next[0]))] : next.map(nextToken))),
    h("p", { class: "value" }, numbers.filter(Boolean).map((each) => h("span", {}, each))));
}

const contextList = (contexts, strongest) =>
  h("ol", { class: "contexts" }, contexts.map((each) => contextItem(each, strongest)));
const legend = (codes) => h("p", { class: "note" },
  codes && [h("span", { class: "negative-shade legend" }, "Shading"), " ",
    h("span", { class: "positive-shade legend" }, "of either colour"), " is the code of the latent; "],
  h("span", { class: "piece parts", style: "--kl: 0.6" }, "a line"),
  " below a token is the KL between the models’ predictions of the next one.");
