"""Python that loads an SAE and its model and steers with one latent, to copy from its page."""

from pathlib import Path

from sae_lens_abstopk.explorer.latents import Provenance

# what the page fills in
LATENT, SCALE = "{latent}", "{scale}"


def snippet(source: str, about: Provenance) -> str:
    """Code with ``{latent}`` and ``{scale}`` to be filled in, for the SAE in the folder or the release ``source``."""
    release, _, sae_id = source.partition(":")
    in_folder = Path(source).exists() or not sae_id
    load = f"load_from_disk({source!r})" if in_folder else f"from_pretrained({release!r}, {sae_id!r})"
    return f"""\
from sae_lens import SAE
from transformers import AutoModelForCausalLM, AutoTokenizer

from sae_lens_abstopk.evaluation.steering import steer

sae = SAE.{load}
model = AutoModelForCausalLM.from_pretrained({about.model_source!r})
tokenizer = AutoTokenizer.from_pretrained({about.model_source!r})
inputs = tokenizer("I think that", return_tensors="pt")
for strength in (-4.0, 4.0):  # towards the negative pole, towards the positive
    with steer(model, sae, latent={LATENT}, strength=strength, scale={SCALE}):
        ids = model.generate(**inputs, max_new_tokens=30, do_sample=False)
    print(strength, tokenizer.decode(ids[0]))
"""
