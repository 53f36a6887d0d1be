"""Train from a config to a run folder, in one call."""

from dataclasses import dataclass
from pathlib import Path
from traceback import clear_frames
from typing import Any

import torch
from rich.console import Console
from sae_lens import TrainingSAE
from typing_extensions import override

from sae_lens_abstopk.system.errors import ConfigError, TrainingStopped, causes
from sae_lens_abstopk.system.shown import Facts, Shown
from sae_lens_abstopk.training.config.config_file import require_source_of
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.distributed import ranks_started
from sae_lens_abstopk.training.runner import DifferenceRun, TrainingRun
from sae_lens_abstopk.training.vector_run import VectorRun
from sae_lens_abstopk.vectors.vectors import Vectors


@dataclass(frozen=True, repr=False)
class TrainingResult(Shown):
    """The SAEs of a finished run."""

    folders: dict[str, Path]
    """Folders by SAE name: ``"sae"`` and the companions."""
    saes: dict[str, TrainingSAE[Any]]
    """
    The SAEs in training form and evaluation mode, scale folded into the weights; ``folders`` hold them for inference.

    Batch SAEs of this package then code each token by their threshold; SAELens's own ``batchtopk`` selects over its
    input.
    """

    @property
    def sae(self) -> TrainingSAE[Any]:
        """The first SAE."""
        return self.saes["sae"]

    @override
    def _facts(self) -> Facts:
        return [
            {
                "SAE": name,
                "architecture": sae.cfg.architecture(),
                "latents": sae.cfg.d_sae,
                "folder": self.folders[name],
            }
            for name, sae in self.saes.items()
        ]


def train(cfg: TrainingConfig, *, vectors: Any = None, console: Console | None = None) -> TrainingResult:
    """
    Train the SAEs of ``cfg`` and write the run folder ``cfg.output_path``.

    Seeds torch with ``cfg.seed``; a resumed run restores the random states of torch, Python and NumPy. Processes
    started by ``torchrun`` share the run, and the first one writes. With ``source: vectors``, the rows of ``vectors``
    (an array or a tensor [n, d_in]) take the place of a file.

    Raises:
        ConfigError: before the model's weights are read, if the config, the machine or the text does not allow the run.
        TrainingStopped: activations are not finite, the loss diverges, or a checkpoint cannot be written. The message
            names the last good state.
        KeyboardInterrupt: on Ctrl-C, SIGTERM or SIGHUP, once progress is saved.
    """
    require_source_of(vectors, cfg.source)
    with torch.inference_mode(False), ranks_started(cfg):
        try:
            if cfg.source == "vectors":
                rows = None if vectors is None else Vectors.of_array(vectors)
                run = VectorRun(cfg, vectors=rows, console=console)
            else:
                run = (DifferenceRun if cfg.source == "model_difference" else TrainingRun)(cfg, console=console)
            run.run()
        except (ConfigError, TrainingStopped, KeyboardInterrupt, torch.OutOfMemoryError) as error:
            # a notebook keeps the error, whose frames hold the model, the SAEs and Adam's moments; free them
            for cause in (error, *causes(error.__cause__), *causes(error.__context__)):
                clear_frames(cause.__traceback__)
            run = None
            raise
    for sae in run.saes.values():
        vars(sae).pop("training_forward_pass", None)  # a trainer's, which holds the model and Adam's moments
        sae.eval()
    return TrainingResult(folders=run.folders, saes=run.saes)
