"""Load an SAE from a folder, a release or memory, and tell whether an evaluation can measure it."""

import copy
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any, cast

from huggingface_hub.errors import HfHubHTTPError
from sae_lens import SAE, TrainingSAE
from sae_lens.constants import SAE_CFG_FILENAME
from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY
from safetensors import SafetensorError

from sae_lens_abstopk.system.errors import ConfigError

Source = SAE[Any] | str | Path
"""An SAE in memory, a folder, or ``RELEASE:SAE_ID``."""
IMPORTS_VARIABLE = "ABSTOPK_IMPORT"
"""Environment variable with the names of users' modules, separated by commas."""
# values of normalize_activations that need statistics of the activations
ESTIMATED = ("expected_average_only_in", "covariance_whitening")


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
        release, _, sae_id = str(source).partition(":")
        try:
            return cast(SAE[Any], SAE.from_pretrained(release, sae_id))
        except (ValueError, OSError, KeyError, HfHubHTTPError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(
                f"{str(source)!r} is not a folder, and no SAE of that release could be loaded ({first}); check the "
                "name and the connection, or give a local folder."
            ) from error
    try:
        sae = cast(SAE[Any], SAE.load_from_disk(folder))
    except (KeyError, SafetensorError, OSError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{folder}{_not_loaded(folder, error)}.") from error
    require_finite(sae, where=str(folder))
    return sae


def _not_loaded(folder: Path, error: Exception) -> str:
    """Return the reason, and the remedy, for an error of SAELens's loader."""
    config, missing = folder / SAE_CFG_FILENAME, error.args[0] if isinstance(error, KeyError) else None
    if not folder.is_dir():
        return ": no such folder; an SAE of the Hub is named RELEASE:SAE_ID"
    if not config.is_file():
        return f" holds no SAE: {SAE_CFG_FILENAME} is missing. A run folder has one once it is done"
    if missing is None:
        return f" could not be loaded as an SAE: {error}"
    if missing in SAE_TRAINING_CLASS_REGISTRY:
        return (
            f" is a checkpoint: it holds an SAE in training, of the architecture {missing!r}; name the folder of the "
            "finished run, or resume the run with --resume"
        )
    if missing == json.loads(config.read_text(encoding="utf-8")).get("architecture"):
        return (
            f" cannot be loaded: SAELens knows no architecture {missing!r}; import the module that registers it, or "
            f"name it in {IMPORTS_VARIABLE}"
        )
    return (
        f" is not an SAE in SAELens's format: its {SAE_CFG_FILENAME} lacks {missing!r}. Convert one of eai-sparsify "
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


def require_measurable(sae: SAE[Any], *, where: str) -> None:
    """Raise a ConfigError unless ``sae`` reconstructs its own raw input, token by token."""
    architecture, metadata = sae.cfg.architecture(), sae.cfg.metadata
    if isinstance(sae, TrainingSAE):
        problem = "is an SAE in training; give the folder of its run, or what save_inference_model(FOLDER) writes"
    elif architecture.endswith("transcoder") or metadata.hook_name_out not in (None, metadata.hook_name):
        problem = (
            f"is a transcoder: it reads {metadata.hook_name} and writes at {metadata.hook_name_out or 'another hook'}; "
            "give an SAE that reconstructs the activations it reads"
        )
    elif architecture == "temporal":
        problem = "is a temporal SAE, whose codes depend on earlier tokens; give an SAE of another architecture"
    else:
        require_scale(sae, where=where)
        return
    raise ConfigError(f"{where} {problem}.")


def require_scale(sae: SAE[Any], *, where: str) -> None:
    """Raise a ConfigError if ``sae`` was trained on rescaled activations and its weights lack the scale."""
    if sae.cfg.normalize_activations in ESTIMATED:
        fold = "norm_scaling_factor" if sae.cfg.normalize_activations == ESTIMATED[0] else "whitening"
        raise ConfigError(
            f"{where} was trained on rescaled activations (normalize_activations={sae.cfg.normalize_activations!r}), "
            "and the scale is not in its weights yet, as in a checkpoint; take the SAE that the run saved at its end, "
            f"or fold the scale in: sae.fold_activation_{fold}(...), then sae.save_model(FOLDER)."
        )


def read_by(sae: SAE[Any]) -> str:
    """Describe the hook, or the head of it, that an SAE reads."""
    metadata = sae.cfg.metadata
    head = metadata.hook_head_index
    return str(metadata.hook_name) if head is None else f"head {head} of {metadata.hook_name}"


def require_all_heads(sae: SAE[Any], what: str) -> None:
    """Raise a ConfigError for an SAE of one attention head, because ``what`` needs the whole hook."""
    if sae.cfg.metadata.hook_head_index is not None:
        raise ConfigError(
            f"this SAE reads only {read_by(sae)}, but {what} is for all heads together; use an SAE of all heads "
            "(hook_head_index: null)."
        )


def with_flat_heads(sae: SAE[Any]) -> SAE[Any]:
    """Return ``sae``, or its twin that reads all heads side by side."""
    if not sae.hook_z_reshaping_mode:
        return sae
    twin = copy.copy(sae)
    twin.turn_off_forward_pass_hook_z_reshaping()
    return twin
