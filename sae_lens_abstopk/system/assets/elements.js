// How pages make elements, and write numbers and text; text only ever goes into text nodes.
"use strict";

const meta = JSON.parse(document.getElementById("meta").textContent);
const main = document.getElementById("main");
const NEGATIVE = 1, POSITIVE = 0;
const SIDES = [NEGATIVE, POSITIVE]; // left to right on the page
const SIDE_NAMES = ["positive", "negative"];

// h("a", {href: "..."}, "text", node) is an element; false and null children are left out.
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value == null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== false && child != null));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";
function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function percent(share) {
  if (share == null) return "–";
  if (share === 0) return "0 %";
  return share < 0.0001 ? "<0.01 %" : `${(100 * share).toFixed(share < 0.1 ? 2 : 1)} %`;
}
const minus = (text) => text.replace("-", "−");
const number = (value, digits = 3) =>
  value == null ? "–" : minus(value.toLocaleString("en-US", { maximumSignificantDigits: digits }));
const fixed = (value, digits = 2) => (value == null ? "–" : minus(value.toFixed(digits)));
const whole = (value) => value.toLocaleString("en-US");
const withSign = (text, isPositive) => `${isPositive ? "+" : "−"}${text}`;

// Invisible or reordering characters; the two joiners only where they have nothing to join.
const HIDDEN = new RegExp([
  "(?![\\u200c\\u200d])[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}\\u00a0]",
  "(?<![^\\p{C}\\p{Z}])[\\u200c\\u200d]",
  "[\\u200c\\u200d](?![^\\p{C}\\p{Z}])",
].join("|"), "gu");
// Text with signs in place of invisible characters, and long runs of spaces counted.
const visible = (text) => text.replaceAll("\n", "⏎").replaceAll("\r", "␍").replaceAll("\t", "⇥")
  .replace(HIDDEN, (sign) => `⟨U+${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`)
  .replace(/ {3,}/g, (run) => `␣×${run.length}`);
// Text of several lines, with signs in place of invisible characters.
const lines = (text) => text.replace(/\r\n?/g, "\n")
  .replace(HIDDEN, (sign) => ("\n\t\u00a0".includes(sign) ? sign : visible(sign)));
// A label or a name in the colour of a pole.
const poleText = (side, text) => h("span", { class: `${SIDE_NAMES[side]}-text` }, visible(text));

// Names with their values, without the false ones.
const figureList = (figures) => h("dl", { class: "figures" },
  figures.filter(Boolean).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));

// Text split into the spaces it begins with and the rest.
const splitSpaces = (text) => /^( *)([^]*)$/.exec(text).slice(1);

// A token on its own, with signs for the spaces it begins with.
function token(text) {
  const [spaces, rest] = splitSpaces(visible(text));
  return h("span", { class: "token" }, spaces && h("span", { class: "by" }, "␣".repeat(spaces.length)), rest);
}
