// Steering from the page of a latent or axis, where `abstopk serve` runs the model.
"use strict";

const SERVED = document.querySelector("meta[name=served]") !== null;
let lastPrompt = "When I was a child,";

// `scale` is the code that a strength of 1 adds; `pole` gives the element that names a side.
function steerPanel({ sae = 0, latent, scale, pole, level = "h2", most = 4, first = 2 }) {
  if (!SERVED || !(scale > 0)) return null;
  const prompt = h("textarea", { id: "prompt", rows: 2, maxlength: 2000 });
  prompt.value = lastPrompt;
  const step = most / 8;
  const slider = h("input", { id: "strength", type: "range", min: -most, max: most, step, value: first, list: "zero" });
  const operator = h("select", { id: "operator" },
    h("option", { value: "add" }, "add on every token"),
    h("option", { value: "cap" }, "cap the projection"));
  const said = h("p", { class: "note", role: "status" });
  const texts = h("ol", { class: "sides" });
  let asked = 0;

  function columns(found, strength) {
    const at = Math.abs(strength);
    return [["negative", -at], ["unsteered", 0], ["positive", at]].map(([name, s]) =>
      h("li", { class: [s !== 0 && name, s === strength && "here"].filter(Boolean).join(" ") },
        h("span", { class: `strength ${s !== 0 && `${name}-text`}` }, s === 0 ? "unsteered" : withSign(at, s > 0)),
        found[name].trimStart() || "(ended at once)"));
  }

  async function write() {
    const mine = ++asked, strength = Number(slider.value);
    slider.setAttribute("aria-valuetext", strength === 0 ? "unsteered"
      : `${Math.abs(strength)} towards the ${strength > 0 ? "positive" : "negative"} pole`);
    lastPrompt = prompt.value;
    said.textContent = "Writing…";
    try {
      const answer = await fetch("steer", {
        method: "POST", headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ sae, latent, prompt: prompt.value, strength: Math.abs(strength) || step, scale,
          operator: operator.value }),
      });
      const found = await answer.json();
      if (mine !== asked) return; // asked anew meanwhile
      if (!answer.ok) throw new Error(found.error);
      texts.replaceChildren(...columns(found, strength));
      said.textContent = strength === 0 ? `At 0 nothing is steered; the sides are at ${step}.` : "";
    } catch (error) {
      if (mine === asked) said.textContent = String(error.message);
    }
  }

  for (const input of [slider, operator]) input.addEventListener("change", write);
  return h("section", { class: "steered live", "aria-label": "Steer" },
    h(level, {}, "Steer"),
    h("label", { for: "prompt" }, "Prompt"), prompt,
    h("div", { class: "slide" }, pole(NEGATIVE),
      h("label", { for: "strength", class: "unseen" }, "Strength, from the negative pole to the positive one"), slider,
      pole(POSITIVE)),
    h("datalist", { id: "zero" }, h("option", { value: 0 })),
    h("div", { class: "controls" }, h("label", { for: "operator" }, "How "), operator,
      h("button", { type: "button", onclick: write }, "Write")),
    said, texts);
}
