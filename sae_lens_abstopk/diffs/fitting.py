"""Train SAEs on what a fine-tune changed at one hook: signed ones of several seeds, one-sided ones beside them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from sae_lens import SAE

from sae_lens_abstopk.diffs.half_runs import train_halves, train_once
from sae_lens_abstopk.model.check_hook import chosen_hook
from sae_lens_abstopk.model.check_pair import check_pair
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.model.model_shape import model_files
from sae_lens_abstopk.model.text_store import count_tokens
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.system.errors import ConfigError, require_given
from sae_lens_abstopk.system.files import reading, write_whole
from sae_lens_abstopk.system.terminal import only_bars
from sae_lens_abstopk.system.yaml_files import CONFIG_FILENAME
from sae_lens_abstopk.text.documents import load_text
from sae_lens_abstopk.text.text_files import text_files
from sae_lens_abstopk.text.text_spec import TextSpec
from sae_lens_abstopk.training.checkpoints.resume import is_finished, resume_if_started
from sae_lens_abstopk.training.config.config_file import load_config
from sae_lens_abstopk.training.config.seeds_and_baselines import SIGNED, by_kind, seeds_and_baselines
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.run_folder import sae_folder

RUN, FILES = "run", "files.json"
"""Folder of the training run in the output, and the file in it that says which files models and text had."""

EPOCHS = 4
"""A short text is trained on so many times; both models read it once."""
OWN = ("source", "seed", "output_path", "companions", "weight_seeds", "sae.architecture")
"""Keys that a comparison of two models sets."""


@dataclass(frozen=True, eq=False)
class FittedDifference:
    """SAEs of the differences of two models, with the models."""

    cfg: TrainingConfig
    saes: dict[str, list[SAE[Any]]]
    """By kind (``signed``, ``one_sided_F``, ``one_sided_2F``), each by seed; they take raw differences [n, d_in]."""
    halves: list[SAE[Any]]
    """One of each half of the text, of the kind that was asked for."""
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
    overrides: Mapping[str, Any] | None = None,
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
        overrides: Further keys of the config, also nested ones (``sae.d_in``), which win over arguments.
        keys: Further keys of the config; None leaves the preset's.

    Raises:
        ConfigError: before weights are read, if a key is wrong or the base model lacks the hook.
    """
    sizes = {"sae.d_sae": d_sae, "sae.k": k, "seed": seed, "device": device, "output_path": str(out / RUN)}
    given = dict(overrides or {})
    if own := next((key for key in given if key.partition(".")[0] in OWN or key in OWN), None):
        raise ConfigError(
            f"{own} is set by the comparison itself, from its options; `abstopk train diff` takes any key."
        )
    all_keys: dict[str, Any] = {
        "model_name": base,
        "tuned_model": tuned,
        "adapter": adapter,
        "hook_name": chosen_hook(base, layer=layer, hook_name=hook_name),
        **text,
        **{key: value for key, value in sizes.items() if value is not None},
        **{key: value for key, value in keys.items() if value is not None},
        **given,
    }
    alone = load_config("diff", {"perf_log_freq": 0} | all_keys)  # the comparison measures what is held out
    require_given(
        "held_out_every", alone.held_out_every, "give a number such as 10, and one document in 10 is kept to measure on"
    )
    companions = seeds_and_baselines(alone.sae.d_sae, n_seeds=n_seeds, baselines=baselines, seed=seed)
    all_keys = {"perf_log_freq": 0} | all_keys | companions
    if "training_tokens" not in all_keys and "training_steps" not in all_keys:
        all_keys["training_tokens"] = sized_to_text(alone)
    return load_config("diff", all_keys)


def sized_to_text(cfg: TrainingConfig) -> int:
    """
    Return the tokens to train on: ``EPOCHS`` times those of the training text, the preset's number at most.

    Raises:
        ConfigError: the text or the tokenizer cannot be read.
    """
    tokenizer = check_pair(cfg.pair_spec, cfg.text_spec, d_in=cfg.sae.d_in)
    n = count_tokens(tokenizer, cfg.model_spec, cfg.text_spec, at_most=-(-cfg.training_tokens // EPOCHS))
    return max(min(cfg.training_tokens, EPOCHS * n), cfg.train_batch_size_tokens)


def fit_difference(cfg: TrainingConfig, *, halves_of: str | None = None, console: Console) -> FittedDifference:
    """
    Train the SAEs of ``cfg``, or go on with or read a run that is there, and load both models.

    ``halves_of`` is a kind of SAE to train on two halves of the text too.

    Raises:
        ConfigError: as :func:`~sae_lens_abstopk.train`; or the run was of other files of a model or of the text.
    """
    assert cfg.output_path is not None
    run, finished = Path(cfg.output_path), is_finished(cfg)
    files = _files_that_are_read(cfg)
    _require_files_of_run(run, files)
    load_text(cfg.text_spec, "held_out")  # report too little text before the models are loaded
    if not finished:
        resume_if_started(cfg)
        try:
            train_once(cfg, console=console)
        finally:
            if (run / CONFIG_FILENAME).is_file():
                write_whole(run / FILES, json.dumps(files, indent=1))
    halves = train_halves(cfg, halves_of, console=only_bars(console)) if halves_of else []
    folders = {name: sae_folder(run, name) for name in cfg.all_saes}
    saes = {kind: [load_sae(folder) for folder in each] for kind, each in by_kind(folders).items()}
    pair = ModelPair.load(cfg.pair_spec, cfg.text_spec, d_in=cfg.sae.d_in)
    return FittedDifference(cfg, saes, halves, pair)


def _files_that_are_read(cfg: TrainingConfig) -> dict[str, list[list[str | int]]]:
    """Return name, size and digest of the local files of the models and of the text."""
    models = {"base model": cfg.model_name, "tuned model": cfg.tuned_model or cfg.adapter or ""}
    found = {name: [list(file) for file in model_files(model)] for name, model in models.items()}
    return found | {"text": text_files(cfg.dataset_path)}


def _require_files_of_run(run: Path, files: Mapping[str, Any]) -> None:
    """Raise a ConfigError if the run was of other files, for example because the model was tuned once more."""
    record = run / FILES
    if not record.is_file():
        return
    with reading(record, "delete it if the models and the text are those of the run"):
        then = json.loads(record.read_text(encoding="utf-8"))
        changed = [name for name in files if files[name] != then[name]]
    if changed:
        raise ConfigError(
            f"{run} is of other files of the {' and the '.join(changed)} than there are now; give another folder with "
            "--out."
        )
