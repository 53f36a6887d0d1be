"""Python that loads an SAE and its model and steers with one latent, to copy from the latent's page."""

from pathlib import Path

from sae_lens_abstopk.explorer.latents import Provenance
from sae_lens_abstopk.model.hook_places import RESIDUAL
from sae_lens_abstopk.model.model_shape import name_on_hub
from sae_lens_abstopk.system.files import home_as_tilde

# the only place in the residual stream that is not a layer's output
EMBEDDED = "blocks.0.hook_resid_pre"
# the page fills these in
LATENT, SCALE = "{latent}", "{scale}"
HUGGING_FACE = """\
tokenizer = AutoTokenizer.from_pretrained({model})
model = AutoModelForCausalLM.from_pretrained({model}{options})
"""
BRIDGE = "model = TransformerBridge.boot_transformers({model}, hf_model=model, tokenizer=tokenizer)\n"
HOOKED = "model = HookedTransformer.from_pretrained_no_processing({model}{options})\n"
INPUTS = 'inputs = tokenizer("I think that", return_tensors="pt")\n'
STEER = f"""\
for strength in (-4.0, 4.0):  # towards the negative pole, towards the positive
    with steer(model, sae, latent={LATENT}, strength=strength, scale={SCALE}):
"""
# generation with a transformers model, and with a HookedTransformer
TOKENS = """\
        ids = model.generate(**inputs, max_new_tokens=30, do_sample=False)
    print(strength, tokenizer.decode(ids[0]))
"""
TEXT = """\
        print(strength, model.generate("I think that", max_new_tokens=30, do_sample=False, verbose=False))
"""
# with a key cache, the layers of a bridge see only the newest token (TransformerLens 3.9)
UNCACHED_TEXT = TEXT.replace("verbose=False", "verbose=False, use_past_kv_cache=False")


def snippet(source: str, about: Provenance) -> str:
    """Code with ``{latent}`` and ``{scale}`` to be filled in, for the SAE in the folder or the release ``source``."""
    release, _, sae_id = source.partition(":")
    in_folder = Path(source).exists() or not sae_id
    load = f"load_from_disk({_quoted(source)})" if in_folder else f"from_pretrained({release!r}, {sae_id!r})"
    load = f"sae = SAE.{load}\n"
    if not about.all_heads:  # nothing steers with one head
        known = "import sae_lens_abstopk  # registers its architectures with SAELens"
        return _program([known, "from sae_lens import SAE"], load)
    hugging_face = "from transformers import AutoModelForCausalLM, AutoTokenizer"
    if about.model_class == "HookedTransformer":
        imports, model, steered = ["from transformer_lens import HookedTransformer"], HOOKED, STEER + TEXT
    elif "hook_" not in about.hook or (RESIDUAL.fullmatch(about.hook) and about.hook != EMBEDDED):
        # transformers has a module at this place
        imports, model, steered = [hugging_face], HUGGING_FACE, INPUTS + STEER + TOKENS
    else:
        bridge = "from transformer_lens.model_bridge import TransformerBridge"
        imports, model, steered = [bridge, hugging_face], HUGGING_FACE + BRIDGE, STEER + UNCACHED_TEXT
    name = about.model_source if model == HOOKED else name_on_hub(about.model_source)
    options = "".join(f", {key}={value!r}" for key, value in about.loaded_with.items())
    imports = ["from sae_lens import SAE", *imports, "", "from sae_lens_abstopk import steer"]
    return _program(imports, load + model.format(model=_quoted(name), options=options) + steered)


def _program(imports: list[str], code: str) -> str:
    standard = ["from os.path import expanduser", ""] if "expanduser(" in code else []
    return "\n".join([*standard, *imports, "", code])


def _quoted(path: str) -> str:
    """Python for a path, without the user's name if it is in their home folder."""
    shown = home_as_tilde(path)
    return repr(path) if shown == path else f"expanduser({shown!r})"
