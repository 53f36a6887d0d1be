"""A first look at trained SAEs: reconstruction numbers and the strongest contexts of both poles."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_lens import SAE, StandardTrainingSAEConfig
from sae_lens.constants import SAE_CFG_FILENAME
from safetensors import SafetensorError

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.evaluation.contexts import PoleContexts
from sae_lens_abstopk.evaluation.model_passes import ModelPasses
from sae_lens_abstopk.evaluation.reconstruction import Reconstruction, evaluate_reconstruction
from sae_lens_abstopk.evaluation.token_filter import TokenFilter
from sae_lens_abstopk.training.activations import token_batches
from sae_lens_abstopk.training.config import TrainingConfig
from sae_lens_abstopk.training.config_file import build_config, read_raw
from sae_lens_abstopk.training.language_model import load_language_model
from sae_lens_abstopk.training.runner import CONFIG_FILENAME


@dataclass(frozen=True)
class Inspected:
    """What :func:`inspect_saes` found out about one SAE."""

    name: str
    folder: Path
    architecture: str
    d_sae: int
    reconstruction: Reconstruction
    contexts: PoleContexts
    training: dict[str, Any]
    """What the metadata say of the training."""


@dataclass(frozen=True)
class Inspection:
    """Several SAEs on the same tokens of the same model."""

    saes: list[Inspected]
    tokenizer: Any
    model_name: str
    hook_name: str
    text: str
    held_out: bool
    """Whether the text was kept from the SAEs in training."""


def load_sae(folder: Path) -> SAE[Any]:
    """
    An SAE from a folder in SAELens's format.

    Raises:
        ConfigError: the folder is missing, incomplete, damaged, or of an architecture that is not registered.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder.")
    if not (folder / SAE_CFG_FILENAME).is_file():
        raise ConfigError(
            f"{folder} holds no SAE: {SAE_CFG_FILENAME} is missing. A run folder has one once it is done."
        )
    try:
        return SAE.load_from_disk(folder)
    except KeyError as error:
        raise ConfigError(
            f"{folder}: SAELens knows no architecture {error}; import the package that registers it."
        ) from None
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"{folder} could not be loaded as an SAE: {error}") from error


def inspect_saes(
    folders: Sequence[Path],
    *,
    model_name: str | None = None,
    text: str | None = None,
    n_tokens: int = 51_200,
    contexts: int = 3,
    on_progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """
    Measure SAEs that read one hook of one model, on text that they were not trained on where the run kept some back.

    Args:
        folders: SAE folders; run settings come from the ``config.yaml`` in the first or in the folder above it.
        model_name: Model to run instead of the one recorded.
        text: Dataset or file to read instead of the run's held-out text.
        n_tokens: Tokens to evaluate on, rounded up to whole batches.
        contexts: Contexts kept of each pole of each latent.
        on_progress: Called with (passes done, passes in all).

    Raises:
        ConfigError: an SAE cannot be loaded, the SAEs read different hooks, or model or text are unknown.
    """
    saes = [load_sae(folder) for folder in folders]
    hooks = {sae.cfg.metadata.hook_name for sae in saes}
    if len(hooks) > 1:
        raise ConfigError(
            f"the SAEs read different hooks ({', '.join(sorted(map(str, hooks)))}); inspect them one by one."
        )
    cfg = evaluation_config(folders[0], saes[0], model_name=model_name, text=text)
    model = load_language_model(cfg)
    for sae in saes:
        sae.to(cfg.device)
    names = [_name(sae, folder) for sae, folder in zip(saes, folders, strict=True)]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    batches = token_batches(model, cfg, n_tokens, part="held_out" if text is None else "all")
    poles = {name: PoleContexts(sae.cfg.d_sae, contexts) for name, sae in zip(names, saes, strict=True)}
    total, done = len(batches) * (3 + len(saes)), 0

    def tick() -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress(done, total)

    results = evaluate_reconstruction(
        ModelPasses(model, cfg.hook_name, autocast=cfg.autocast_lm),
        dict(zip(names, saes, strict=True)),
        batches,
        token_filter=TokenFilter.of_sae(saes[0], getattr(model, "tokenizer", None)),
        with_kl=True,
        observer=lambda name, codes, where, tokens: poles[name].update(codes, where, tokens),
        on_pass=tick,
    )
    inspected = [
        Inspected(
            name, folder, sae.cfg.architecture(), sae.cfg.d_sae, results[name], poles[name], _training_record(sae)
        )
        for name, folder, sae in zip(names, folders, saes, strict=True)
    ]
    return Inspection(
        saes=inspected,
        tokenizer=model.tokenizer,
        model_name=Path(cfg.model_name).name if Path(cfg.model_name).exists() else cfg.model_name,
        hook_name=cfg.hook_name,
        text=cfg.dataset_path,
        held_out=text is None,
    )


def evaluation_config(
    folder: Path, sae: SAE[Any], *, model_name: str | None = None, text: str | None = None
) -> TrainingConfig:
    """The config that model and text are loaded by: that of the run, or one made from the SAE's metadata."""
    for candidate in (folder / CONFIG_FILENAME, folder.parent / CONFIG_FILENAME):
        if candidate.is_file():
            raw, where = read_raw(candidate)
            raw |= {"resume_from_checkpoint": None, "from_pretrained_path": None, "shuffle": False, "perf_log_freq": 0}
            raw |= {"device": "auto", "llm_device": None, "act_store_device": None}
            raw |= {"model_name": model_name} if model_name else {}
            raw |= {"dataset_path": text, "dataset_name": None, "split": "train"} if text else {}
            return build_config(raw, where=where)
    metadata = sae.cfg.metadata
    if text is None:
        raise ConfigError(
            f"{folder} has no {CONFIG_FILENAME} that names its held-out text; give --text FILE_OR_DATASET."
        )
    if not (model_name or metadata.model_name) or not metadata.hook_name:
        raise ConfigError(f"{folder}: the metadata name no model or hook; give --model NAME.")
    hooks_hf_module = "hook_" not in metadata.hook_name
    return TrainingConfig(
        sae=StandardTrainingSAEConfig(d_in=sae.cfg.d_in, d_sae=sae.cfg.d_sae),  # only its width is looked at
        model_name=model_name or metadata.model_name,
        model_class_name=metadata.model_class_name
        or ("AutoModelForCausalLM" if hooks_hf_module else "TransformerBridge"),
        hook_name=metadata.hook_name,
        hook_head_index=metadata.hook_head_index,
        dataset_path=text,
        context_size=metadata.context_size or 128,
        prepend_bos=True if metadata.prepend_bos is None else metadata.prepend_bos,
        seqpos_slice=tuple(metadata.seqpos_slice or (None,)),
        store_batch_size_prompts=8,
        train_batch_size_tokens=1,
        shuffle=False,
        perf_log_freq=0,
    )


def _training_record(sae: SAE[Any]) -> dict[str, Any]:
    recorded = ("training_architecture", "training_tokens", "training_architecture_details", "context_size")
    return {key: sae.cfg.metadata[key] for key in recorded if key in sae.cfg.metadata}


def _name(sae: SAE[Any], folder: Path) -> str:
    return sae.cfg.metadata.label or folder.name
