"""Python that loads an SAE and its model and steers with one latent, to copy from its page."""

from pathlib import Path

from sae_lens_abstopk.explorer.latents import Provenance
from sae_lens_abstopk.model.hook_places import RESIDUAL
from sae_lens_abstopk.model.model_shape import name_on_hub
from sae_lens_abstopk.system.files import home_as_tilde

# of the residual stream this place alone is no layer's output
EMBEDDED = "blocks.0.hook_resid_pre"
# what the page fills in
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
# what is printed, in the model's own way of going on
TOKENS = """\
        ids = model.generate(**inputs, max_new_tokens=30, do_sample=False)
    print(strength, tokenizer.decode(ids[0]))
"""
TEXT = """\
        print(strength, model.generate("I think that", max_new_tokens=30, do_sample=False, verbose=False))
"""
# with a cache of keys, the layers of a bridge see the newest token alone (TransformerLens 3.9)
UNCACHED_TEXT = TEXT.replace("verbose=False", "verbose=False, use_past_kv_cache=False")


def snippet(source: str, about: Provenance) -> str:
    """Code with ``{latent}`` and ``{scale}`` to be filled in, for the SAE in the folder or the release ``source``."""
    release, _, sae_id = source.partition(":")
    in_folder = Path(source).exists() or not sae_id
    load = (
        f"sae = SAE.load_from_disk({_quoted(source)})"
        if in_folder
        else f"sae = SAE.from_pretrained({release!r}, {sae_id!r})"
    )
    if not about.all_heads:  # nothing steers with one head
        needed = [
            "import sae_lens_abstopk  # whose architectures SAELens does not know by itself",
            "from sae_lens import SAE",
        ]
        return _program("\n".join(needed), f"{load}\n")
    hugging_face = "from transformers import AutoModelForCausalLM, AutoTokenizer"
    if about.model_class == "HookedTransformer":
        needed, model, steered = ["from transformer_lens import HookedTransformer"], HOOKED, STEER + TEXT
    elif "hook_" not in about.hook or (RESIDUAL.fullmatch(about.hook) and about.hook != EMBEDDED):
        # places that transformers has modules for
        needed, model, steered = [hugging_face], HUGGING_FACE, INPUTS + STEER + TOKENS
    else:
        bridge = "from transformer_lens.model_bridge import TransformerBridge"
        needed, model, steered = [bridge, hugging_face], HUGGING_FACE + BRIDGE, STEER + UNCACHED_TEXT
    named = about.model_source if model == HOOKED else name_on_hub(about.model_source)
    options = "".join(f", {key}={value!r}" for key, value in about.loaded_with.items())
    imports = "\n".join(["from sae_lens import SAE", *needed])
    ours = "from sae_lens_abstopk import steer"
    code = f"{load}\n{model.format(model=_quoted(named), options=options)}{steered}"
    return _program(f"{imports}\n\n{ours}", code)


def _program(imports: str, code: str) -> str:
    standard = "from os.path import expanduser\n\n" if "expanduser(" in code else ""
    return f"{standard}{imports}\n\n{code}"


def _quoted(path: str) -> str:
    """Python for a path, without the name of the user whose home it is in."""
    shown = home_as_tilde(path)
    return repr(path) if shown == path else f"expanduser({shown!r})"
