"""Comparisons: several variants trained in one pass over the same activations, for several k and seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from rich.console import Console
from sae_lens.saes.sae import TrainingSAEConfig

from sae_lens_abstopk.saes.signed_training import SignedTrainingSAEConfig
from sae_lens_abstopk.saes.sparse_training import SparseTrainingSAEConfig
from sae_lens_abstopk.saes.traits import sparsity_coefficient
from sae_lens_abstopk.system.errors import ConfigError, TrainingStopped, require_distinct
from sae_lens_abstopk.system.yaml_files import data_folder, shipped_file
from sae_lens_abstopk.training.config.checks import require_sae_names
from sae_lens_abstopk.training.config.config_file import apply_overrides, build_config, named_config, read_raw
from sae_lens_abstopk.training.config.sae_section import build_sae_config, sae_config_class
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.distributed import require_one_process
from sae_lens_abstopk.training.run_folder import sae_folder
from sae_lens_abstopk.training.sweeps.many_runs import train_unfinished
from sae_lens_abstopk.training.sweeps.run_files import FileModel

THRESHOLD_TOKENS = 16_384
"""Training tokens that thresholds are set on, unless the config says otherwise: SAEs are compared at one L0."""
SIZES = ("sae.d_in", "sae.d_sae", "sae.expansion_factor")
OWN = {
    *("sae", "companions", "seed", "target_l0", "lr_multiples", "weight_seeds", "output_path"),
    "resume_allows_changes",
}
"""Config keys that a comparison sets for each run."""
Factor = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Variant(BaseModel):
    """SAE keys of a variant; ``d_in``, ``d_sae`` and ``b_dec_init_method`` default to those of the config."""

    model_config = ConfigDict(extra="allow", strict=True)
    times_wider: Factor = 1.0
    """Multiple of the config's ``d_sae``."""
    lr_multiple: Factor | None = None
    """Multiple of the config's ``lr``."""

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        if given := {"k", "k_fraction", "target_l0"} & self.model_fields_set:
            raise ValueError(f"{min(given)} is the same for all variants; set k of the comparison.")
        if "times_wider" in self.model_fields_set and (given := {"d_sae", "expansion_factor"} & self.model_fields_set):
            raise ValueError(f"give times_wider or {min(given)}, not both.")
        return self


def _each_once(values: list[int]) -> list[int]:
    require_distinct("the value", values, remedy="its runs would share a folder")
    return values


Integers = Annotated[list[int], Field(min_length=1), AfterValidator(_each_once)]


class ComparisonFile(FileModel):
    """A training config, and variants of its SAE that share everything else."""

    config: str
    k: Integers
    seeds: Integers
    variants: Annotated[dict[str, Variant], Field(min_length=1)]
    suite: str = "full"


@dataclass(frozen=True)
class ComparisonRun:
    """One pass over the activations: all variants at one k and one seed; ``name`` also names its folder."""

    name: str
    k: float
    seed: int
    config: TrainingConfig

    def folders(self) -> dict[str, Path]:
        output = Path(self.config.output_path or "")
        return {str(sae.metadata.variant): sae_folder(output, name) for name, sae in self.config.all_saes.items()}


@dataclass(frozen=True)
class Comparison:
    """The runs of a comparison file, and the evaluation suite for their SAEs."""

    runs: tuple[ComparisonRun, ...]
    suite: str

    def saes_and_groups(self) -> tuple[dict[str, Path], dict[str, str]]:
        """Return the folders of all SAEs by name, and the group of each: its variant and k, shared by all seeds."""
        saes, groups = {}, {}
        for run in self.runs:
            for variant, folder in run.folders().items():
                group = f"{variant} k={run.k:g}"  # always with k, because results of another k may be added
                name = f"{group} seed {run.seed}"
                saes[name], groups[name] = folder, group
        return saes, groups


def load_comparison(source: str, overrides: Sequence[str] = (), *, out: Path) -> Comparison:
    """
    Read and check a comparison file, or one of ``training_configs/comparisons``, for runs in the folder ``out``.

    ``overrides`` are changes to the training config; of ``sae`` only to its size: variants set the rest.

    Raises:
        ConfigError: a key, a value, a variant or the config is wrong, or an override has no effect.
    """
    path = shipped_file(source, data_folder("training_configs") / "comparisons", what="comparison")
    file = ComparisonFile.read(path)
    require_sae_names(file.variants, where=f"{path}: variants")
    for override in overrides:
        key = override.partition("=")[0]
        if key.partition(".")[0] in OWN and key not in SIZES:
            raise ConfigError(
                f"{override!r} has no effect on a comparison: {path} decides k, seeds and variants, --out the folder, "
                f"and all runs have the same settings. Of the config's SAE only {', '.join(SIZES)} count."
            )
    raw, where = read_raw(named_config(file.config, path))
    raw.setdefault("threshold_tokens", THRESHOLD_TOKENS)
    apply_overrides(raw, overrides)
    if (kind := raw.get("source", "tokens")) != "tokens":
        raise ConfigError(
            f"{path}: the config has source: {kind}, and a comparison is evaluated on a language model; give a config "
            "of tokens. `abstopk train CONFIG --compare-one-sided` compares SAEs of any source."
        )
    # if one variant is not signed, b_dec_init_method has an effect whatever the SAE of the config is
    unsigned = {"companions": {"unsigned": {"architecture": "standard"}}, "target_l0": {}, "lr_multiples": {}}
    own = {"weight_seeds": {}, "resume_allows_changes": []}
    base = build_config(raw | unsigned | own, where=where)
    if base.from_pretrained_path is not None:
        weights = f"from_pretrained_path={base.from_pretrained_path!r}"
        raise ConfigError(f"{path}: {weights} has weights for one variant only; set it to null.")
    runs = []
    for k in file.k:
        for seed in file.seeds:
            name = f"k{k}_seed{seed}"
            checkpoints = base.checkpoint_path and str(Path(base.checkpoint_path) / name)
            own = {"seed": seed, "output_path": str(out / name), "checkpoint_path": checkpoints}
            cfg = with_variants(base, file.variants, k, where=str(path), **own)
            for variant, sae in zip(file.variants, cfg.all_saes.values(), strict=True):
                sae.metadata.variant = variant
            if cfg.autocast and any(isinstance(sae, SparseTrainingSAEConfig) for sae in cfg.all_saes.values()):
                mixed = "would train variants on the sparse kernels in float32 and others in bfloat16"
                raise ConfigError(f"{path}: autocast=true {mixed}; leave it out.")
            runs.append(ComparisonRun(name, k, seed, cfg))
    return Comparison(tuple(runs), file.suite)


def with_variants(
    base: TrainingConfig, variants: Mapping[str, Variant], k: float, *, where: str, **changes: Any
) -> TrainingConfig:
    """Copy ``base`` with ``changes`` so that it trains ``variants`` at an L0 of ``k``, the first as ``sae``."""
    saes: dict[str, TrainingSAEConfig] = {}
    targets, rates = {}, {}
    for name, variant in variants.items():
        key, place = name if saes else "sae", f"{where}: variants.{name}"
        given = variant.model_extra or {}
        keys: dict[str, Any] = {"d_in": base.sae.d_in}
        if "expansion_factor" not in given:
            keys["d_sae"] = round(base.sae.d_sae * variant.times_wider)
        keys |= given
        config_class = sae_config_class(str(keys.get("architecture", "abstopk")), where=place)
        if issubclass(config_class, SignedTrainingSAEConfig):
            keys.setdefault("b_dec_init_method", base.b_dec_init_method)
        if keys.get("jumprelu_sparsity_loss_mode") == "quadratic":
            keys["target_l0"] = float(k)
        elif sparsity_coefficient(config_class) is not None:
            targets[key] = float(k)
        elif "k" in {field.name for field in fields(config_class)}:
            keys["k"] = k
        else:
            raise ConfigError(
                f"{place}: {keys['architecture']} has neither k nor a sparsity coefficient, so its L0 cannot be k."
            )
        saes[key] = build_sae_config(keys, where=place)
        if variant.lr_multiple is not None:
            rates[key] = variant.lr_multiple
    if all(isinstance(sae, SignedTrainingSAEConfig) for sae in saes.values()):
        changes["b_dec_init_method"] = "mean"  # the default, because each SAE has its own
    return replace(base, sae=saes.pop("sae"), companions=saes, target_l0=targets, lr_multiples=rates, **changes)


def run_comparison(comparison: Comparison, *, console: Console, dry_run: bool = False) -> None:
    """Train as :func:`.train_unfinished` does; raise TrainingStopped if other processes train some of the runs."""
    require_one_process("abstopk compare")
    configs = {run.name: run.config for run in comparison.runs}
    if elsewhere := train_unfinished(configs, console=console, dry_run=dry_run):
        again = "When they are done, run the same command again to evaluate"
        raise TrainingStopped(f"other processes are training {', '.join(elsewhere)}. {again}.")
