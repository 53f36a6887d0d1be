"""The Python code on a latent's page: load the SAE and its model, steer with it."""

from pathlib import Path

from sae_lens_abstopk.explorer.latents import Provenance
from sae_lens_abstopk.model.hook_places import RESIDUAL
from sae_lens_abstopk.model.model_shape import name_on_hub
from sae_lens_abstopk.system.files import home_as_tilde
from sae_lens_abstopk.system.pages import templates

# the only hook in the residual stream that is not a layer's output
EMBEDDED = "blocks.0.hook_resid_pre"


def snippet(source: str, about: Provenance) -> str:
    """Return code for the SAE in the folder or release ``source``, with ``{latent}`` and ``{scale}`` to fill in."""
    release, _, sae_id = source.partition(":")
    in_folder = Path(source).exists() or not sae_id
    if about.unit == "rows":
        kind = "vectors"
    elif not about.all_heads:
        kind = "one head"
    elif about.model_class == "HookedTransformer":
        kind = "hooked"
    elif "hook_" not in about.hook or (RESIDUAL.fullmatch(about.hook) and about.hook != EMBEDDED):
        kind = "transformers"  # has a module at this hook
    else:
        kind = "bridge"
    template = templates("explorer", autoescape=False).get_template("snippet.py.j2")
    rendered = template.render(
        kind=kind,
        load=f"load_from_disk({_quoted(source)})" if in_folder else f"from_pretrained({release!r}, {sae_id!r})",
        model=_quoted(about.model_source if kind == "hooked" else name_on_hub(about.model_source)),
        options="".join(f", {key}={value!r}" for key, value in about.loaded_with.items()),
    )
    return f"from os.path import expanduser\n\n{rendered}" if "expanduser(" in rendered else rendered


def _quoted(path: str) -> str:
    """Return a path as Python code, without the user's name if it is in their home folder."""
    shown = home_as_tilde(path)
    return repr(path) if shown == path else f"expanduser({shown!r})"
