// Shares and intervals, as text and as bars that start in the middle.
"use strict";

const share = (value) => (value == null ? "–" : `${Math.round(100 * value)} %`);
// The ends of an interval [value, low, high], if it has any.
const ends = (interval, show) => (interval[1] == null ? "" : `${show(interval[1])} to ${show(interval[2])}`);
const withEnds = (interval, show) =>
  (interval ? [show(interval[0]), " ", h("span", { class: "range" }, ends(interval, show))] : "–");
const poleName = (side) => poleText(side, `${SIDE_NAMES[side]} pole`);

const ALONG = { "vector-effect": "non-scaling-stroke" };
const middleLine = () => svg("line", { x1: 0, x2: 0, y1: 0, y2: 16, class: "zero", ...ALONG });
const barsAround = (label, ...shapes) => svg("svg", {
  class: "side-bar", viewBox: "-101 0 202 16", preserveAspectRatio: "none",
  ...(label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" }),
}, ...shapes);
function bar(from, to, side, hollow) {
  const name = `${SIDE_NAMES[side]}-bar${hollow ? " hollow" : ""}`;
  return svg("rect", { class: name, x: Math.min(from, to), width: Math.abs(to - from), y: 3, height: 10 });
}

// A bar from the middle to either side, which ends at `most`, with its interval.
function sideBar([value, low, high], most, { label, hollow } = {}) {
  const x = (at) => 100 * Math.max(-1, Math.min(1, at / most));
  return barsAround(label, bar(0, x(value), value < 0 ? NEGATIVE : POSITIVE, hollow), middleLine(),
    ...(low == null ? [] : [svg("line", { x1: x(low), x2: x(high), y1: 8, y2: 8, class: "span", ...ALONG })]));
}
// A bar to each side, by the values of both.
const bothBars = (values, most, { label, hollow }) => barsAround(label,
  ...SIDES.map((side) => bar(0, (side === POSITIVE ? 100 : -100) * values[side] / most, side, hollow)), middleLine());

function dots(stability) {
  const label = `in ${share(stability)} of the other seeds`, filled = 1 + Math.round(4 * stability);
  return stability != null && h("span", { class: "dots", role: "img", "aria-label": label, title: label },
    [1, 2, 3, 4, 5].map((n) => h("i", { class: n <= filled && "on" })));
}
