"""Comparisons: several variants trained in one pass over the same activations, for several k and seeds."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console

from sae_lens_abstopk.saes.signed_training import SignedTrainingSAEConfig
from sae_lens_abstopk.saes.sparse_training import SparseTrainingSAEConfig
from sae_lens_abstopk.saes.sparsity import sparsity_coefficient
from sae_lens_abstopk.system.errors import ConfigError, TrainingStopped
from sae_lens_abstopk.system.yaml_files import data_folder, read_yaml, shipped_file, yaml_text
from sae_lens_abstopk.training.config.config_file import load_config
from sae_lens_abstopk.training.config.presets import named_config
from sae_lens_abstopk.training.config.sae_checks import require_sae_name
from sae_lens_abstopk.training.config.sae_section import build_sae_config, sae_config_class
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.distributed import require_one_process
from sae_lens_abstopk.training.run_folder import sae_folder, under_checkpoint_path
from sae_lens_abstopk.training.sweeps.many_runs import train_unfinished

FILE_KEYS = {"config", "k", "seeds", "variants", "suite"}
OF_ALL_VARIANTS = {"k", "k_fraction", "target_l0"}
"""Keys of an SAE that a variant has no value of its own for."""
VARIANT_KEYS = {"times_wider", "lr_multiple"}
"""Keys of a variant that are not keys of its SAE."""
SIZE_KEYS = ("d_in", "d_sae", "expansion_factor")
"""What the variants take from the SAE of the config."""
ELSEWHERE = {
    "seed": "change seeds in {path}",
    "companions": "change variants in {path}",
    "target_l0": "change k in {path}, which is the target too",
    "lr_multiples": "change variants.NAME.lr_multiple in {path}",
    "resume_allows_changes": "all runs of it have the same settings; for others take another folder (--out)",
    "output_path": "name the folder of all runs with --out",
}
"""Keys of the config that every run of a comparison gets a value of its own for, and where that is decided."""


@dataclass(frozen=True)
class ComparisonRun:
    """One pass over the activations: all variants at one k and one seed."""

    name: str
    """Also the name of its folder."""
    k: float
    seed: int
    config: TrainingConfig

    def folders(self) -> dict[str, Path]:
        """Where each variant is written, by name."""
        assert self.config.output_path is not None
        output = Path(self.config.output_path)
        return {
            self.config.sae.metadata.variant if name == "sae" else name: sae_folder(output, name)
            for name in self.config.all_saes
        }


@dataclass(frozen=True)
class Comparison:
    """What a comparison file asks for."""

    runs: tuple[ComparisonRun, ...]
    suite: str
    """Name of the evaluation suite that the trained SAEs go through."""

    def saes_and_groups(self) -> tuple[dict[str, Path], dict[str, str]]:
        """Folders of all SAEs, and of each the variant, with its k, that it is a seed of."""
        saes, groups = {}, {}
        for run in self.runs:
            for variant, folder in run.folders().items():
                group = f"{variant} k={run.k:g}"  # also where there is one: results of another k may be shown with them
                saes[f"{group} seed {run.seed}"] = folder
                groups[f"{group} seed {run.seed}"] = group
        return saes, groups


def load_comparison(source: str, overrides: Sequence[str] = (), *, out: Path) -> Comparison:
    """
    Read and check a comparison file: a training config, and variants of its SAE that share everything else.

    A variant is a section of SAE keys; ``d_in``, ``d_sae`` and ``b_dec_init_method`` are those of the config where it does not say
    otherwise, ``times_wider`` multiplies ``d_sae``. Every variant gets the k of the run: as its ``k`` where it has one, as the
    ``target_l0`` of a quadratic loss of JumpReLU, else as the L0 that its sparsity coefficient is steered to.

    Args:
        source: A YAML file, or the name of one in ``training_configs/comparisons``. A relative ``config`` in it is looked for
            beside it first.
        overrides: ``key=value`` changes to the training config; of ``sae`` only its size, as all else of it is a variant's.
        out: Folder of the runs.

    Raises:
        ConfigError: the file is missing, a key, a variant or the config is not understood, or an override has no effect.
    """
    path = shipped_file(source, data_folder("training_configs") / "comparisons", what="comparison")
    raw = read_yaml(path)
    missing, unknown = {"config", "k", "seeds", "variants"} - set(raw), set(raw) - FILE_KEYS
    if missing or unknown:
        raise ConfigError(
            f"{path}: a comparison has the keys {', '.join(sorted(FILE_KEYS))}; "
            f"missing: {', '.join(sorted(missing)) or 'none'}; unknown: {', '.join(sorted(unknown)) or 'none'}."
        )
    ks, seeds, variants = raw["k"], raw["seeds"], raw["variants"]
    for key, values in (("k", ks), ("seeds", seeds)):
        if not isinstance(values, list) or not values or not all(type(value) is int for value in values):
            raise ConfigError(f"{path}: {key}={values!r} must be a list of whole numbers.")
        if len(set(values)) < len(values):
            raise ConfigError(
                f"{path}: {key}={values!r} names a value twice, whose runs would share a folder; name it once."
            )
    if not isinstance(variants, dict) or not variants or not all(isinstance(v, dict) for v in variants.values()):
        raise ConfigError(f"{path}: variants must map a name to a section of SAE keys; got {variants!r}.")
    for name in variants:
        require_sae_name(name, where=f"{path}: variants")
    for override in overrides:
        _require_effect(override, path)
    config = named_config(raw["config"], path)
    # an SAE that is not signed beside that of the config, whatever it is, gives b_dec_init_method an effect
    unsigned = "companions={unsigned: {architecture: standard}}"
    base = load_config(config, [*overrides, unsigned, "target_l0={}", "lr_multiples={}"])
    if base.from_pretrained_path is not None:
        raise ConfigError(
            f"{path}: from_pretrained_path={base.from_pretrained_path!r} holds the weights of one variant, and the others would "
            "start from new ones; set it to null."
        )
    runs = []
    for k in ks:
        for seed in seeds:
            name = f"k{k}_seed{seed}"
            changes = [*overrides, f"seed={seed}", f"output_path={yaml_text(str(out / name))}"]
            changes += variants_as_overrides(variants, base, k, where=str(path))
            cfg = under_checkpoint_path(load_config(config, changes), name)
            if cfg.autocast and any(isinstance(sae, SparseTrainingSAEConfig) for sae in cfg.all_saes.values()):
                raise ConfigError(
                    f"{path}: with autocast=true some variants would train in bfloat16, and those on the sparse kernels in float32; "
                    "leave it out."
                )
            for variant, sae in zip(variants, cfg.all_saes.values(), strict=True):
                sae.metadata.variant = variant
            runs.append(ComparisonRun(name, k, seed, cfg))
    return Comparison(tuple(runs), raw.get("suite", "full"))


def _require_effect(override: str, path: Path) -> None:
    """Refuse a change to what the comparison file, or ``--out``, decides."""
    key = override.partition("=")[0]
    section, _, option = key.partition(".")
    if section == "sae" and option not in SIZE_KEYS:
        if option in ("k", "k_fraction"):
            remedy = f"change k in {path}, which holds for all variants"
        else:
            remedy = (
                f"change variants.NAME{'.' * bool(option)}{option} in {path}; of the SAE of the config only its size counts "
                f"({', '.join(f'sae.{size}' for size in SIZE_KEYS)})"
            )
    elif section in ELSEWHERE:
        remedy = ELSEWHERE[section].format(path=path)
    else:
        return
    raise ConfigError(f"{override!r} has no effect on a comparison; {remedy}.")


def run_comparison(comparison: Comparison, *, console: Console, dry_run: bool = False) -> None:
    """
    Train the runs that are not finished yet, one after the other; with ``dry_run`` only list them.

    Raises:
        ConfigError: before any is trained, if the folder of one holds a run with other settings.
        TrainingStopped: at the end, naming the runs that failed, or that other processes train.
    """
    require_one_process("abstopk compare")
    configs = {run.name: run.config for run in comparison.runs}
    if elsewhere := train_unfinished(configs, console=console, dry_run=dry_run):
        raise TrainingStopped(
            f"{', '.join(elsewhere)}: being trained by other processes. When they are done, run the same command again, which "
            "evaluates all."
        )


def variants_as_overrides(
    variants: Mapping[str, Mapping[str, Any]], base: TrainingConfig, k: float, *, where: str
) -> list[str]:
    """
    Changes to the config ``base`` that make it train ``variants`` at an L0 of ``k``, all in one pass.

    Args:
        variants: SAE keys of each variant, by name; ``times_wider`` multiplies the base's ``d_sae``,
            ``lr_multiple`` its ``lr``.
        base: Gives ``d_in`` and ``d_sae``.
        k: See :func:`load_comparison`.
        where: What errors name as the place.

    Raises:
        ConfigError: a variant is not understood.
    """
    saes, targets, rates = {}, {}, {}
    for name, options in variants.items():
        for key in VARIANT_KEYS & options.keys():
            factor = options[key]
            if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < math.inf:
                raise ConfigError(f"{where}: variants.{name}.{key}={factor!r} must be a number above 0.")
        if "lr_multiple" in options:
            rates[name] = options["lr_multiple"]
        section = {"d_in": base.sae.d_in, "d_sae": round(base.sae.d_sae * options.get("times_wider", 1))}
        section |= {key: value for key, value in options.items() if key not in VARIANT_KEYS}
        if given := OF_ALL_VARIANTS & options.keys():
            raise ConfigError(
                f"{where}: variants.{name}.{min(given)} is the same for all variants; it is what k names."
            )
        if "times_wider" in options and (given := {"d_sae", "expansion_factor"} & options.keys()):
            raise ConfigError(f"{where}: variants.{name} has times_wider and {min(given)}; leave one of them out.")
        try:
            config_class = sae_config_class(str(options.get("architecture", "abstopk")), where=f"variants.{name}")
            if issubclass(config_class, SignedTrainingSAEConfig):
                section.setdefault("b_dec_init_method", base.b_dec_init_method)
            if options.get("jumprelu_sparsity_loss_mode") == "quadratic":
                section["target_l0"] = float(k)
            elif sparsity_coefficient(config_class) is None:
                if "k" not in {each.name for each in fields(config_class)}:
                    raise ConfigError(
                        f"variants.{name}: {options.get('architecture')} has neither k nor a sparsity coefficient, so it cannot be "
                        "trained at the L0 of the others."
                    )
                section["k"] = k
            else:
                targets[name] = float(k)
            build_sae_config(section, where=f"variants.{name}")
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        saes[name] = section
    first, *others = saes
    companions = {name: {"remove": sorted(saes[first]), **saes[name]} for name in others}

    def by_sae(values: Mapping[str, float]) -> str:
        return json.dumps({"sae" if name == first else name: value for name, value in values.items()})

    return [
        f"sae={json.dumps(saes[first])}",
        f"companions={json.dumps(companions)}",
        f"target_l0={by_sae(targets)}",
        f"lr_multiples={by_sae(rates)}",
        # each signed SAE has its own
        *(["b_dec_init_method=mean"] if all("b_dec_init_method" in section for section in saes.values()) else []),
    ]
