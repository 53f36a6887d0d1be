"""Load an SAE from a folder, a release or memory."""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any, cast

from huggingface_hub.errors import HfHubHTTPError
from sae_lens import SAE
from sae_lens.constants import SAE_CFG_FILENAME
from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY
from safetensors import SafetensorError

from sae_lens_abstopk.saes.measurable import require_measurable, with_flat_heads
from sae_lens_abstopk.system.errors import ConfigError

Source = SAE[Any] | str | Path
"""An SAE in memory, a folder, or ``RELEASE:SAE_ID``."""
IMPORTS_VARIABLE = "ABSTOPK_IMPORT"
"""Environment variable with the names of users' modules, separated by commas."""


def import_architectures() -> None:
    """Import the modules in ``ABSTOPK_IMPORT``, which register architectures; the current folder is on the path."""
    named = os.environ.get(IMPORTS_VARIABLE, "")
    for name in filter(None, (part.strip() for part in named.split(","))):
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        try:
            importlib.import_module(name)
        except Exception as error:
            raise ConfigError(
                f"{IMPORTS_VARIABLE}={named!r}: {name!r} could not be imported ({type(error).__name__}: {error}); name "
                "modules of installed packages, of PYTHONPATH or of this folder."
            ) from error


def load_sae(source: Source) -> SAE[Any]:
    """
    Load an SAE that an evaluation can measure, or accept one in memory; it reads the heads of ``hook_z`` side by side.

    Raises:
        ConfigError: it is missing, incomplete, damaged, has an unregistered architecture, or cannot be evaluated.
    """
    if isinstance(source, SAE):
        sae: SAE[Any] = source
        require_finite(sae, where=origin_of(sae))
    else:
        sae = load_as_saved(source)
    require_measurable(sae, where=origin_of(source))
    return with_flat_heads(sae)


def load_as_saved(source: str | Path) -> SAE[Any]:
    """Load any SAE from a folder or release; heads stay in the shape that SAELens gives them."""
    folder = Path(source)
    import_architectures()
    if is_release(source):
        return _from_release(str(source))
    if not (folder / SAE_CFG_FILENAME).is_file():
        raise ConfigError(
            f"{folder} holds no SAE: {SAE_CFG_FILENAME} is missing. A run folder has one once it is done."
            if folder.is_dir()
            else f"{folder}: no such folder; an SAE of the Hub is named RELEASE:SAE_ID."
        )
    try:
        sae = cast(SAE[Any], SAE.load_from_disk(folder))
    except (KeyError, SafetensorError, OSError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        remedy = (
            _remedy(folder, error.args[0]) if isinstance(error, KeyError) else f"could not be loaded as an SAE: {error}"
        )
        raise ConfigError(f"{folder} {remedy}.") from error
    require_finite(sae, where=str(folder))
    return sae


def _remedy(folder: Path, missing: str) -> str:
    """Advise what to do when SAELens's loader misses an architecture or a config key."""
    if missing in SAE_TRAINING_CLASS_REGISTRY:
        return (
            f"is a checkpoint: it holds an SAE in training, of the architecture {missing!r}; name the folder of the "
            "finished run, or resume the run with --resume"
        )
    if missing == json.loads((folder / SAE_CFG_FILENAME).read_text(encoding="utf-8")).get("architecture"):
        return (
            f"cannot be loaded: SAELens knows no architecture {missing!r}; import the module that registers it, or "
            f"name it in {IMPORTS_VARIABLE}"
        )
    return (
        f"is not an SAE in SAELens's format: its {SAE_CFG_FILENAME} lacks {missing!r}. Convert one of eai-sparsify "
        "with `abstopk convert` if it is signed, or load it by "
        "SAE.load_from_disk(FOLDER, converter=sparsify_disk_loader)"
    )


def is_release(source: str | Path) -> bool:
    """Return whether ``source`` is a ``RELEASE:SAE_ID``, not a folder."""
    return ":" in str(source) and not Path(source).exists()


def origin_of(source: Source) -> str:
    """Return the name of an SAE for errors: its folder or release, or the architecture of one in memory."""
    return f"the {source.cfg.architecture()} SAE in memory" if isinstance(source, SAE) else str(source)


def require_finite(sae: SAE[Any], *, where: str) -> None:
    """Raise a ConfigError if a weight is NaN or infinite; a threshold may be infinite, which closes a pole."""
    for name, weight in sae.state_dict().items():
        bad = weight.isnan() if name.endswith("threshold") else ~weight.isfinite()
        if bad.any():
            raise ConfigError(
                f"{where}: {int(bad.sum())} of {weight.numel()} values of {name} are NaN or infinite; train it again, "
                "or mend the file."
            )


def _from_release(source: str) -> SAE[Any]:
    release, _, sae_id = source.partition(":")
    try:
        return cast(SAE[Any], SAE.from_pretrained(release, sae_id))
    except (ValueError, OSError, KeyError, HfHubHTTPError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"{source!r} is not a folder, and no SAE of that release could be loaded ({first}); check the name and the "
            "connection, or give a local folder."
        ) from error
