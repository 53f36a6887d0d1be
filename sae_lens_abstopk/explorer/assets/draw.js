// The drawings: a dose-response (SVG), and the scatter of all latents (canvas).
"use strict";

// Log-odds of pole B against strength, one line per intervention, told apart by colour, dash and mark.
const CURVES = {
  "latent": "latent-line", "difference in means": "means-line", "clamp": "clamp-line", "random": "random-line",
};
const RADII = { "random-line": 2, "clamp-line": 5.5 };
function doseResponse(concept, steering) {
  const [a, b] = concept.poles;
  const measured = (doses) => doses.filter(([, at]) => at != null);
  const points = steering.curves.flatMap(([, doses]) => measured(doses));
  const most = Math.max(...points.map(([x]) => Math.abs(x)), 1e-9);
  const [low, high] = [Math.min(...points.map(([, y]) => y)), Math.max(...points.map(([, y]) => y))];
  const x = (strength) => 300 + (strength / most) * 290;
  const y = (value) => 190 - ((value - low) / (high - low || 1)) * 180;
  const styleOf = (name) => CURVES[name] ?? "other-line";
  const curves = steering.curves.map(([name, doses]) => svg("g", { class: `curve ${styleOf(name)}` },
    svg("polyline", { points: measured(doses).map(([dose, at]) => `${x(dose)},${y(at)}`).join(" ") }),
    ...measured(doses).map(([dose, at]) => svg("circle", { cx: x(dose), cy: y(at), r: RADII[styleOf(name)] ?? 3.5 },
      svg("title", {}, `${name}, strength ${dose}: log-odds ${fixed(at)}`)))));
  const legend = [...new Set(steering.curves.map(([name]) => name))].map((name) => h("li", {},
    svg("svg", { viewBox: "0 0 30 10", "aria-hidden": "true", class: `key curve ${styleOf(name)}` },
      svg("polyline", { points: "0,5 30,5" })), name));
  const spoken = steering.curves.filter(([name]) => name !== "random").map(([name, doses]) =>
    `${name}: ${doses.map(([dose, at]) => `${fixed(at)} at ${dose}`).join(", ")}`);
  const label = `Log-odds of ${b} by strength. ${spoken.join(". ")}`;
  const line = (x1, x2, y1, y2) => svg("line", { x1, x2, y1, y2, class: "baseline" });
  const axis = [`−${number(most)} ← ${a}`, "strength", `${b} → ${number(most)}`];
  return h("figure", { class: "doses" },
    h("div", { class: "ticks", "aria-hidden": "true" },
      [high, (low + high) / 2, low].map((value) => h("span", {}, fixed(value, 1)))),
    svg("svg", { viewBox: "0 0 600 200", role: "img", "aria-label": label },
      line(0, 600, y(steering.baseline), y(steering.baseline)), line(300, 300, 0, 200), ...curves),
    h("div", { class: "axis", "aria-hidden": "true" }, axis.map((text) => h("span", {}, text))),
    h("ul", { class: "legend" }, legend),
    h("figcaption", {}, `Log-odds of ${b}'s words after ${steering.prompts} test prompts, from ${fixed(low)} to `
      + `${fixed(high)}; the horizontal line is the unsteered model. Every direction is added with the same norm as `
      + "the latent's."));
}

let redraw = () => {}; // of the last scatter shown, when the theme changes
addEventListener("themechange", () => redraw());

// Two-sidedness (of a one-sided SAE, the scale) against density (log). Returns the figure, and a function that draws it
// with the latents outside a list faded.
function scatter(data, sae) {
  const count = data.scale.length;
  const total = data.fires[0].map((a, i) => a + data.fires[1][i]);
  const live = [...total.keys()].filter((i) => total[i] > 0);
  const decade = (value) => Math.log10(value / data.tokens);
  const [low, high] = [Math.floor(decade(1)), 0];
  const top = data.signed ? 0.5 : live.reduce((most, i) => Math.max(most, data.scale[i]), 1e-9);
  const value = (i) => (data.signed ? twoSidedness(data.fires, i) : data.scale[i]) / top;
  const label = `${data.signed ? "Two-sidedness" : "Scale"} against density of ${whole(live.length)} latents that `
    + "fired; the table has the same numbers";
  const canvas = h("canvas", { role: "img", "aria-label": label });
  const tip = h("div", { class: "tip", hidden: true });
  const figure = h("figure", { class: "scatter" }, h("div", { class: "plot" }, canvas, tip),
    h("figcaption", {}, `Share of ${UNIT} on which a latent fires, and `
      + `${data.signed ? "share of its firings on the weaker side" : "its scale"}. Select a dot to open it.`));
  // lengths are given for a text size of 15 px, which grows with the screen
  const unit = parseFloat(getComputedStyle(document.documentElement).fontSize) / 15;
  const pad = { left: 34 * unit, right: 8 * unit, top: 8 * unit, bottom: 30 * unit };
  let shown = null, box = null;
  const x = (i) => pad.left + ((decade(total[i]) - low) / (high - low)) * (box.width - pad.left - pad.right);
  const y = (i) => box.height - pad.bottom - value(i) * (box.height - pad.top - pad.bottom);

  function draw(list = shown) {
    shown = list;
    box = canvas.getBoundingClientRect();
    if (!box.width) return;
    const scale = devicePixelRatio || 1;
    canvas.width = box.width * scale;
    canvas.height = box.height * scale;
    const style = getComputedStyle(canvas);
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    context.font = `${11 * unit}px system-ui, sans-serif`;
    context.fillStyle = style.getPropertyValue("color");
    context.strokeStyle = style.borderTopColor;
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const part of [0, 0.5, 1]) {
      const at = box.height - pad.bottom - part * (box.height - pad.top - pad.bottom);
      context.fillText(number(part * top, 2), pad.left - 6 * unit, at);
      context.beginPath(); context.moveTo(pad.left, at); context.lineTo(box.width - pad.right, at); context.stroke();
    }
    context.textAlign = "center";
    for (let power = low; power <= high; power++) {
      const at = pad.left + ((power - low) / (high - low)) * (box.width - pad.left - pad.right);
      const text = `${Number((100 * 10 ** power).toPrecision(1))} %`;
      context.fillText(text, Math.min(at, box.width - 18 * unit), box.height - pad.bottom + 14 * unit);
    }
    const chosen = list && list.length < count ? new Set(list) : null;
    for (const faded of [true, false]) {
      context.globalAlpha = faded ? 0.12 : 0.55;
      context.fillStyle = faded ? style.getPropertyValue("color") : style.outlineColor;
      for (const i of live) {
        const outside = chosen !== null && !chosen.has(i);
        if (outside === faded) context.fillRect(x(i) - 1.25 * unit, y(i) - 1.25 * unit, 2.5 * unit, 2.5 * unit);
      }
    }
  }
  redraw = () => figure.isConnected && draw();
  function nearest(event) {
    const at = canvas.getBoundingClientRect();
    const [px, py] = [event.clientX - at.left, event.clientY - at.top];
    let best = null, distance = 12 ** 2;
    for (const i of shown ?? live) {
      if (!total[i]) continue;
      const d = (x(i) - px) ** 2 + (y(i) - py) ** 2;
      if (d < distance) [best, distance] = [i, d];
    }
    return best;
  }
  canvas.addEventListener("pointermove", (event) => {
    const i = nearest(event);
    tip.hidden = i === null;
    canvas.style.cursor = i === null ? "" : "pointer";
    if (i === null) return;
    const labels = (data.signed ? SIDES : [POSITIVE]).map((side) => h("bdi", {}, visible(data.labels[side][i])));
    tip.replaceChildren(`${i}: `, ...labels.flatMap((label, n) => (n ? [" ↔ ", label] : [label])));
    tip.style.top = `${y(i) + 10}px`;
    const isLeft = x(i) < box.width / 2;
    tip.style.left = isLeft ? `${x(i)}px` : "";
    tip.style.right = isLeft ? "" : `${box.width - x(i)}px`;
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("click", (event) => {
    const i = nearest(event);
    if (i !== null) location.hash = latentAddress(sae, i);
  });
  new ResizeObserver(() => draw()).observe(canvas);
  return { figure, draw };
}
