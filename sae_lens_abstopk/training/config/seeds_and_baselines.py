"""Several seeds of a signed SAE, and one-sided SAEs beside it, as companions of one run."""

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")

SIGNED = "signed"
BASELINES = {"one_sided_F": 1, "one_sided_2F": 2}
"""Kinds of one-sided SAEs, with their widths as multiples of that of the signed one."""


def seeds_and_baselines(d_sae: int, *, n_seeds: int, baselines: bool, seed: int) -> dict[str, Any]:
    """Return config overrides that add seeds of ``sae``, and with ``baselines`` as many of each one-sided kind."""
    companions: dict[str, dict[str, Any]] = {f"{SIGNED}_seed{i}": {} for i in range(1, n_seeds)}
    if baselines:
        for kind, times in BASELINES.items():
            changes = {"architecture": "sparse_batchtopk", "d_sae": times * d_sae}
            companions |= {f"{kind}_seed{i}": changes for i in range(n_seeds)}
    seeds = {name: seed + i % n_seeds for i, name in enumerate(["sae", *companions])}
    return {f"companions.{name}": changes for name, changes in companions.items()} | {"weight_seeds": seeds}


def by_kind(of_saes: Mapping[str, T]) -> dict[str, list[T]]:
    """Sort what belongs to the SAEs of such a run by kind (``signed``, ``one_sided_F``, ``one_sided_2F``) and seed."""
    found: dict[str, list[T]] = {}
    for name, each in of_saes.items():
        found.setdefault(SIGNED if name == "sae" else name.partition("_seed")[0], []).append(each)
    return found
