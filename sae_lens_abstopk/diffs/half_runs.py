"""SAEs of two disjoint halves of the training text: a latent of only one of them is a matter of the text."""

from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from sae_lens import SAE
from typing_extensions import override

from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.text.documents import load_text
from sae_lens_abstopk.text.text_spec import HALVES, TextPart
from sae_lens_abstopk.training.checkpoints.resume import is_finished, resume_if_started
from sae_lens_abstopk.training.config.config_file import load_config
from sae_lens_abstopk.training.config.seeds_and_baselines import SIGNED, by_kind
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.runner import DifferenceRun
from sae_lens_abstopk.training.source.kept_differences import KeptDifferenceSource


class ReadOnceRun(DifferenceRun):
    """A run for which both models read the text once, however many epochs it trains."""

    source_kind = KeptDifferenceSource

    @override
    def _is_shown(self, name: str) -> bool:
        return name == "sae"  # of many seeds, the first


class HalfRun(ReadOnceRun):
    """A run on one half of the training text."""

    def __init__(self, cfg: TrainingConfig, part: TextPart, *, console: Console) -> None:
        self.part: TextPart = part
        super().__init__(cfg, console=console)

    @override
    def _check_source(self) -> None:
        super()._check_source()
        self._documents = load_text(self.cfg.text_spec, self.part)


def train_once(cfg: TrainingConfig, *, console: Console) -> None:
    """Train the SAEs of ``cfg``; errors as :func:`~sae_lens_abstopk.train`."""
    with torch.inference_mode(False):
        ReadOnceRun(cfg, console=console).run()


def train_halves(cfg: TrainingConfig, kind: str, *, console: Console) -> list[SAE[Any]]:
    """
    Train the first SAE of a kind on each half, for half as many tokens, or read it if that was done.

    The folders are ``first_half`` and ``second_half``, beside that of the finished run ``cfg``; those of one-sided SAEs
    have the kind in their names.
    """
    assert cfg.output_path is not None
    found, run = [], Path(cfg.output_path)
    changes: dict[str, Any] = {"companions": {}, "weight_seeds": {}, "training_tokens": cfg.training_tokens // 2}
    changes |= {"device": cfg.device, "tuned_device": cfg.tuned_device}
    for part in HALVES:
        folder = run.with_name(part if kind == SIGNED else f"{part}_{kind}")
        half = load_config(run / "config.yaml", changes | {"output_path": str(folder)})
        half.sae = by_kind(cfg.all_saes)[kind][0]
        if not is_finished(half):
            resume_if_started(half)
            with torch.inference_mode(False):
                HalfRun(half, part, console=console).run()
        found.append(load_sae(folder))
    return found
