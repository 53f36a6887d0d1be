"""SAEs with the model and the text that they are evaluated on."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
from huggingface_hub.errors import HfHubHTTPError
from sae_lens import SAE
from sae_lens.constants import SAE_CFG_FILENAME
from safetensors import SafetensorError
from transformer_lens.HookedRootModule import HookedRootModule

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.evaluation.evaluation_config import evaluation_config, kept_back
from sae_lens_abstopk.evaluation.measurable import require_measurable
from sae_lens_abstopk.evaluation.passes.model_passes import ModelPasses
from sae_lens_abstopk.evaluation.passes.text_batches import ReadingRules
from sae_lens_abstopk.evaluation.passes.token_filter import TokenFilter
from sae_lens_abstopk.saes.heads import read_by, with_flat_heads
from sae_lens_abstopk.training.activations import token_batches
from sae_lens_abstopk.training.config import TrainingConfig
from sae_lens_abstopk.training.language_model import load_language_model
from sae_lens_abstopk.training.text import Part, load_text

_HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True)
class Subjects:
    """SAEs that read one hook of one model, with that model and text for it."""

    saes: dict[str, SAE[Any]]
    sources: dict[str, str]
    """Folder, or release and id, of each SAE."""
    cfg: TrainingConfig
    """Of the model, the hook and the text."""
    model: HookedRootModule
    rules: ReadingRules
    """Of all SAEs; the norm limit is that of the first."""
    part: Part
    """Of the text, which is read."""
    held_out: bool
    """Whether it is known that the text was kept from every SAE in training."""

    @property
    def tokenizer(self) -> Any:
        return self.model.tokenizer

    @property
    def device(self) -> torch.device:
        """Of the SAEs, and of the activations that they read."""
        return next(iter(self.saes.values())).device

    @property
    def token_filter(self) -> TokenFilter:
        """Which tokens every number is about."""
        return self.rules.token_filter

    @property
    def passes(self) -> ModelPasses:
        """Passes of the model around the hook."""
        return ModelPasses.of_run(self.model, self.cfg)

    @property
    def model_name(self) -> str:
        """Without the path of a local folder."""
        return without_path(self.cfg.model_name)

    @property
    def text_name(self) -> str:
        """Without the path of a local file."""
        return without_path(self.cfg.dataset_path)

    def batches(self, n_tokens: int) -> list[torch.Tensor]:
        """Token ids [batch, context] of at least ``n_tokens`` tokens of the text."""
        return token_batches(self.model, self.cfg, n_tokens, part=self.part)


def without_path(source: str) -> str:
    """What the Hub may know by ``source``; of a local file or folder, also one that is gone or of another machine, its name."""
    if _HUB_NAME.fullmatch(source) and not Path(source).exists():
        return source
    return PureWindowsPath(source).name or source  # which knows both kinds of slashes


def open_subjects(
    sources: Sequence[str | Path] | Mapping[str, str | Path],
    *,
    model_name: str | None = None,
    text: str | None = None,
    device: str = "auto",
) -> Subjects:
    """
    Load SAEs and what they are evaluated on.

    Args:
        sources: SAEs as :func:`load_sae` takes them, by name if they are to be called other than their labels or
            folders; run settings come from the ``config.yaml`` in the first or in the folder above it.
        model_name: Model to run instead of the one recorded.
        text: Dataset or file to read instead of the run's held-out text.
        device: For the model; ``"auto"`` takes CUDA where there is one, else the CPU.

    Raises:
        ConfigError: an SAE cannot be loaded, the SAEs read different hooks or were trained on different kinds of token,
            or model or text are unknown.
    """
    listed = list(sources.values()) if isinstance(sources, Mapping) else list(sources)
    saes = [load_sae(source) for source in listed]
    require_one_place(saes, same_model=model_name is not None)
    if isinstance(sources, Mapping):
        names = list(sources)
    else:
        names = [sae.cfg.metadata.label or Path(source).name for sae, source in zip(saes, listed, strict=True)]
        names = [str(source) for source in listed] if len(set(names)) < len(names) else names
    if len(set(names)) < len(names):
        raise ConfigError(f"an SAE is named twice: {', '.join(names)}.")
    cfg = evaluation_config(Path(listed[0]), saes[0], model_name=model_name, text=text, device=device)
    part: Part = "held_out" if text is None else "all"
    load_text(cfg, part)  # one that cannot be had is told of before the model is loaded
    model = load_language_model(cfg)
    rules = ReadingRules.of_saes(dict(zip(names, saes, strict=True)), getattr(model, "tokenizer", None))
    place = ModelPasses.of_run(model, cfg).device
    for sae in saes:
        sae.to(place)
    return Subjects(
        saes=dict(zip(names, saes, strict=True)),
        sources={name: str(source) for name, source in zip(names, listed, strict=True)},
        cfg=cfg,
        model=model,
        rules=rules,
        part=part,
        held_out=text is None and all(kept_back(cfg, source, sae) for source, sae in zip(listed, saes, strict=True)),
    )


def require_one_place(saes: Sequence[SAE[Any]], *, same_model: bool = False) -> None:
    """
    Refuse SAEs that cannot be measured on the same activations.

    Args:
        saes: One at least.
        same_model: Somebody has said which model they are of, whatever it is called in their metadata.

    Raises:
        ConfigError: they read different hooks, have inputs of different widths, or are of different models.
    """
    hooks, widths = {read_by(sae) for sae in saes}, {sae.cfg.d_in for sae in saes}
    if len(hooks) > 1:
        raise ConfigError(
            f"the SAEs read different hooks ({', '.join(sorted(hooks))}); take those of one hook at a time."
        )
    if len(widths) > 1:
        raise ConfigError(
            f"the SAEs read activations of different widths ({', '.join(map(str, sorted(widths)))}), so they are of different "
            "models; give those of one model at a time."
        )
    models = {Path(name).name for sae in saes if (name := sae.cfg.metadata.model_name)}
    if len(models) > 1 and not same_model:
        raise ConfigError(
            f"the SAEs are of different models ({', '.join(sorted(models))}); give those of one model at a time, or, if these "
            "are names of the same model, choose one with --model NAME."
        )


def load_sae(source: str | Path) -> SAE[Any]:
    """
    An SAE from a folder in SAELens's format, or ``RELEASE:SAE_ID`` by ``SAE.from_pretrained``.

    It reads the heads of ``hook_z`` side by side, as activations come here.

    Raises:
        ConfigError: it is missing, incomplete, damaged, of an architecture that is not registered, or nothing that an
            evaluation is about (:func:`~.measurable.require_measurable`).
    """
    sae = load_as_saved(source)
    require_measurable(sae, where=str(source))
    return with_flat_heads(sae)


def load_as_saved(source: str | Path) -> SAE[Any]:
    """The same, whatever it is, which reads activations of the shape that SAELens loads it for."""
    folder = Path(source)
    if not folder.exists() and ":" in str(source):
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
        raise ConfigError(
            f"{folder}: SAELens knows no architecture {error}; import the package that registers it."
        ) from None
    except (SafetensorError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"{folder} could not be loaded as an SAE: {error}") from error
    require_finite(sae, where=str(folder))
    return sae


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
