// A histogram of the codes of a latent, with zero in the middle.
"use strict";

// `counts` of both poles are of equal bins from 0 to `limit`; of a one-sided SAE, `sides` is only the positive one.
// Heights are square roots, so that few strong codes can be seen beside many weak ones.
function histogram(limit, counts, { items, sides = SIDES }) {
  const signed = sides.length > 1;
  const bins = 1 + Math.max(...counts.map((of) => of.findLastIndex((count) => count > 0)));
  const edge = (bin) => (bin * limit) / counts[POSITIVE].length;
  const tallest = Math.sqrt(Math.max(1, ...counts.flat()));
  const start = signed ? 0 : bins;
  const bar = (side, count, bin) => {
    const height = Math.max(1, (100 * Math.sqrt(count)) / tallest);
    const x = side === POSITIVE ? bins + bin : bins - 1 - bin;
    const [from, to] = [bin, bin + 1].map((at) => `${side === POSITIVE ? "" : "−"}${number(edge(at))}`);
    return svg("rect", { class: `${SIDE_NAMES[side]}-bar`, x: x + 0.06, width: 0.88, y: 100 - height, height },
      svg("title", {}, `${whole(count)} ${items}, ${from} to ${to}`));
  };
  const bars = sides.flatMap((side) => counts[side].slice(0, bins)
    .flatMap((count, bin) => (count ? [bar(side, count, bin)] : [])));
  const totals = sides.map((side) =>
    `${whole(counts[side].reduce((sum, count) => sum + count, 0))} ${items} on the ${SIDE_NAMES[side]} side`);
  const label = `${signed ? "Signed histogram" : "Histogram"} of the codes: ${totals.join(", ")}`;
  const ticks = signed ? [-1, -0.5, 0, 0.5, 1] : [0, 0.25, 0.5, 0.75, 1];
  const zero = { x1: bins, x2: bins, y1: 0, y2: 100, class: "zero", "vector-effect": "non-scaling-stroke" };
  const viewBox = `${start} 0 ${2 * bins - start} 100`;
  return h("figure", { class: "histogram" },
    svg("svg", { viewBox, preserveAspectRatio: "none", role: "img", "aria-label": label }, ...bars, svg("line", zero)),
    h("div", { class: "axis", "aria-hidden": "true" }, ticks.map((part) => h("span", {}, number(part * edge(bins))))),
    h("figcaption", {}, `${items[0].toUpperCase()}${items.slice(1)} by code; bar heights are square roots of counts.`));
}
