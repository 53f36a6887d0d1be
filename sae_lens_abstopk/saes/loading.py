"""One SAE, from wherever it is."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HfHubHTTPError
from sae_lens import SAE
from sae_lens.constants import SAE_CFG_FILENAME
from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY
from safetensors import SafetensorError

from sae_lens_abstopk.saes.heads import with_flat_heads
from sae_lens_abstopk.saes.measurable import require_measurable
from sae_lens_abstopk.saes.own_code import VARIABLE, import_architectures
from sae_lens_abstopk.system.errors import ConfigError

Source = SAE[Any] | str | Path
"""An SAE in memory, a folder, or ``RELEASE:SAE_ID``."""


def load_sae(source: Source) -> SAE[Any]:
    """
    An SAE from a folder in SAELens's format, ``RELEASE:SAE_ID`` by ``SAE.from_pretrained``, or one in memory.

    It reads the heads of ``hook_z`` side by side, as activations come here.

    Raises:
        ConfigError: it is missing, incomplete, damaged, of an architecture that is not registered, or nothing that an
            evaluation is about (:func:`~.measurable.require_measurable`).
    """
    if isinstance(source, SAE):
        sae = source
        require_finite(sae, where=origin_of(source))
    else:
        sae = load_as_saved(source)
    require_measurable(sae, where=origin_of(source))
    return with_flat_heads(sae)


def load_as_saved(source: str | Path) -> SAE[Any]:
    """The same from a folder or release, whatever it is, which reads activations of the shape that SAELens loads it for."""
    folder = Path(source)
    import_architectures()
    if is_release(source):
        return _from_release(str(source))
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; an SAE of the Hub is named RELEASE:SAE_ID.")
    if not (folder / SAE_CFG_FILENAME).is_file():
        raise ConfigError(
            f"{folder} holds no SAE: {SAE_CFG_FILENAME} is missing. A run folder has one once it is done."
        )
    try:
        sae = SAE.load_from_disk(folder)
    except KeyError as error:
        if error.args[0] in SAE_TRAINING_CLASS_REGISTRY:
            raise ConfigError(
                f"{folder} is a checkpoint: it holds an SAE in training, of the architecture {error}. Name the folder of the "
                "finished run, or let the run go on with --resume."
            ) from None
        if error.args[0] == json.loads((folder / SAE_CFG_FILENAME).read_text(encoding="utf-8")).get("architecture"):
            remedy = (
                f"SAELens knows no architecture {error}; import the module that registers it, or name it in {VARIABLE}"
            )
        else:
            remedy = (
                f"its {SAE_CFG_FILENAME} lacks {error}, so it is no SAE in SAELens's format. One of eai-sparsify is read by "
                "`abstopk convert` where it is signed, else by SAE.load_from_disk(FOLDER, converter=sparsify_disk_loader)"
            )
        raise ConfigError(f"{folder}: {remedy}.") from None
    except (SafetensorError, OSError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{folder} could not be loaded as an SAE: {error}") from error
    require_finite(sae, where=str(folder))
    return sae


def is_release(source: str | Path) -> bool:
    """Whether ``source`` is the ``RELEASE:SAE_ID`` of an SAE, and no folder."""
    return ":" in str(source) and not Path(source).exists()


def origin_of(source: Source) -> str:
    """Where an SAE came from; what to call it in errors, and no folder, where it is in memory."""
    return f"the {source.cfg.architecture()} SAE in memory" if isinstance(source, SAE) else str(source)


def require_finite(sae: SAE[Any], *, where: str) -> None:
    """
    Refuse weights that would make every number NaN.

    Raises:
        ConfigError: a weight is NaN or infinite; a threshold may be infinite, which closes a pole.
    """
    for name, weight in sae.state_dict().items():
        bad = weight.isnan() if name.endswith("threshold") else ~weight.isfinite()
        if bad.any():
            raise ConfigError(
                f"{where}: {int(bad.sum())} of {weight.numel()} values of {name} are NaN or infinite; such an SAE is of no "
                "use to anyone, so train it again or mend the file."
            )


def _from_release(source: str) -> SAE[Any]:
    release, _, sae_id = source.partition(":")
    try:
        return SAE.from_pretrained(release, sae_id)
    except (ValueError, OSError, KeyError, HfHubHTTPError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"{source!r} is no folder, and no SAE of that release could be loaded ({first}); check the name and the "
            "connection, or give a local folder."
        ) from error
