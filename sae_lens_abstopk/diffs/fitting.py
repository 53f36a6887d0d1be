"""Train SAEs on what a fine-tune changed at one hook: signed ones of several seeds, one-sided ones beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from sae_lens import SAE

from sae_lens_abstopk.model.check_hook import chosen_hook
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.system.terminal import only_bars
from sae_lens_abstopk.text.text_spec import TextSpec
from sae_lens_abstopk.training.checkpoints.resume import is_finished, resume_if_started
from sae_lens_abstopk.training.config.config_file import load_config
from sae_lens_abstopk.training.config.seeds_and_baselines import SIGNED, by_kind, seeds_and_baselines
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.run_folder import sae_folder
from sae_lens_abstopk.training.train import train

RUN = "run"
"""Folders in the output: the training run with all SAEs, and the signed SAE that is shown."""


@dataclass(frozen=True, eq=False)
class FittedDifference:
    """SAEs of the differences of two models, with the models."""

    cfg: TrainingConfig
    saes: dict[str, list[SAE[Any]]]
    """By kind (``signed``, ``one_sided_F``, ``one_sided_2F``), each by seed; they take raw differences [n, d_in]."""
    pair: ModelPair

    @property
    def text_spec(self) -> TextSpec:
        """The text, of which a part was held out."""
        return self.cfg.text_spec

    @property
    def token_filter(self) -> TokenFilter:
        """The tokens that were trained on, by the activations of the base model."""
        return TokenFilter.of_sae(self.saes[SIGNED][0], self.pair.tokenizer)


def difference_config(
    base: str,
    out: Path,
    *,
    text: Mapping[str, Any],
    tuned: str | None = None,
    adapter: str | None = None,
    layer: int | None = None,
    hook_name: str | None = None,
    d_sae: int | None = None,
    k: float | None = None,
    n_seeds: int = 5,
    baselines: bool = True,
    seed: int = 0,
    device: str = "auto",
    **keys: Any,
) -> TrainingConfig:
    """
    Return the config of a run in a folder of ``out``: the preset ``diff``, with companions.

    Args:
        base: Hub id or folder of the base model.
        out: Output folder; the run is in a folder of it.
        text: Config keys of the text, such as ``dataset_path`` and ``column_name``.
        tuned: Hub id or folder of the tuned model, or ``adapter``, a PEFT adapter of the base.
        layer: Layer whose output is read; the middle one by default.
        hook_name: Another module to read.
        d_sae: Number of latents, by default the preset's, as is ``k``.
        n_seeds: SAEs of as many seeds train in one pass.
        baselines: Train one-sided SAEs of ``d_sae`` and of twice as many latents beside them.
        keys: Further keys of the config.

    Raises:
        ConfigError: before weights are read, if a key is wrong or the base model lacks the hook.
    """
    sizes = {"sae.d_sae": d_sae, "sae.k": k, "seed": seed, "device": device, "output_path": str(out / RUN)}
    overrides: dict[str, Any] = {
        "model_name": base,
        "tuned_model": tuned,
        "adapter": adapter,
        "hook_name": chosen_hook(base, layer=layer, hook_name=hook_name),
        **text,
        **{key: value for key, value in sizes.items() if value is not None},
        **{key: value for key, value in keys.items() if value is not None},
    }
    width = load_config("diff", overrides).sae.d_sae
    companions = seeds_and_baselines(width, n_seeds=n_seeds, baselines=baselines, seed=seed)
    return load_config("diff", overrides | companions)


def fit_difference(cfg: TrainingConfig, *, console: Console) -> FittedDifference:
    """
    Train the SAEs of ``cfg``, or go on with or read a run that is there, and load both models.

    Raises:
        ConfigError: as :func:`~sae_lens_abstopk.train`.
    """
    if not is_finished(cfg):
        resume_if_started(cfg)
        train(cfg, console=only_bars(console))
    assert cfg.output_path is not None
    folders = {name: sae_folder(Path(cfg.output_path), name) for name in cfg.all_saes}
    saes = {kind: [load_sae(folder) for folder in each] for kind, each in by_kind(folders).items()}
    pair = ModelPair.load(cfg.pair_spec, cfg.text_spec, d_in=cfg.sae.d_in)
    return FittedDifference(cfg, saes, pair)
