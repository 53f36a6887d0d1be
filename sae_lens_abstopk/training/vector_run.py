"""A training run on vectors in a file or data set."""

from typing import Any

import torch
from rich.console import Console
from typing_extensions import override

from sae_lens_abstopk.system.errors import require_same_width
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.metrics import HeldOut, HeldOutBatches
from sae_lens_abstopk.training.run import Run
from sae_lens_abstopk.training.source.vector_source import VectorSource
from sae_lens_abstopk.vectors.embedding import open_rows, precision_of_training
from sae_lens_abstopk.vectors.vectors import Vectors

RECORDED = (
    *("source", "model_name", "dataset_path", "dataset_name", "split", "column_name", "group", "held_out_every"),
    "random_signs",
)


class VectorRun(Run):
    """A run on vectors; each training "token" is a row."""

    def __init__(self, cfg: TrainingConfig, *, vectors: Vectors | None = None, console: Console | None = None) -> None:
        self._given = vectors
        super().__init__(cfg, console=console)

    @override
    def _check_source(self) -> None:
        cfg, spec = self.cfg, self.cfg.vector_spec
        on = cfg.llm_device or cfg.device
        options: dict[str, Any] = {"precision": precision_of_training(on), "device": on, "console": self.console}
        self._vectors = self._given or open_rows(spec, **options)
        width, remedy = self._vectors.d_in, f"set sae.d_in={self._vectors.d_in}, or leave it out"
        require_same_width(cfg.dataset_path, width, "the SAE", cfg.sae.d_in, remedy=remedy)
        self._train_rows = self._vectors.part(spec, "train")
        self._held_out_rows = self._vectors.part(spec, "held_out") if cfg.measures else torch.empty(0, dtype=torch.long)
        self._vectors.require_sound()

    @override
    def _open_source(self) -> VectorSource:
        cfg = self.cfg
        recorded: dict[str, Any] = {key: getattr(cfg, key) or None for key in RECORDED}
        recorded |= {"n_vectors": len(self._train_rows)}
        return VectorSource(
            self._vectors,
            self._train_rows,
            batch_size=cfg.train_batch_size_tokens,
            seed=cfg.seed,
            recorded=recorded,
            random_signs=cfg.random_signs,
        )

    @override
    def _open_held_out(self) -> HeldOut:
        vectors, rows = self._vectors, self._held_out_rows[: self.cfg.perf_tokens]
        batches = rows.split(self.cfg.train_batch_size_tokens)
        return HeldOutBatches(len(batches), lambda _: map(vectors.rows, batches))
