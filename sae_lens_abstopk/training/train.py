"""Training from a config to a run folder, in one call."""

from dataclasses import dataclass
from pathlib import Path
from traceback import clear_frames
from typing import Any

import torch
from rich.console import Console
from sae_lens import TrainingSAE

from sae_lens_abstopk.system.errors import ConfigError, TrainingStopped, causes
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.distributed import ranks_started
from sae_lens_abstopk.training.runner import TrainingRun


@dataclass(frozen=True)
class TrainingResult:
    """What a run leaves behind."""

    folders: dict[str, Path]
    """Folder of each SAE: ``"sae"`` and the companions by name."""
    saes: dict[str, TrainingSAE[Any]]
    """
    The SAEs in their training form and in evaluation mode, scale folded into the weights.

    In evaluation mode one of this package that selects over the batch codes each token alone, by its threshold; SAELens's own
    ``batchtopk`` goes on selecting over what it is given. For :func:`evaluate` and
    :func:`explore` give ``folders``, which hold the same SAEs for inference.
    """


def train(cfg: TrainingConfig, *, console: Console | None = None) -> TrainingResult:
    """
    Train the SAEs of ``cfg`` and write the run folder ``cfg.output_path``.

    Started by ``torchrun``, the processes share the run (see :mod:`.distributed`); the first writes. Seeds torch's random numbers
    with ``cfg.seed``; a run that is resumed also sets those of Python and NumPy to where it was.

    Args:
        cfg: As :func:`load_config` makes it, or one built in Python.
        console: Where progress is shown; by default the terminal.

    Returns:
        Folders and SAEs, by name.

    Raises:
        ConfigError: before the model's weights are read, if a value of ``cfg``, the device, the model, the hook, the text, the
            folder, the activation cache or the room on the disk will not do.
        TrainingStopped: the run cannot go on: activations that are not finite, a loss that diverges, a checkpoint that
            cannot be written. The text says where the last good state is.
        KeyboardInterrupt: by Ctrl-C, SIGTERM or SIGHUP, once progress is saved.
    """
    if not isinstance(cfg, TrainingConfig):
        raise ConfigError(
            f"train needs a TrainingConfig, and was given a {type(cfg).__name__}; make one by load_config(PRESET_OR_FILE), or by "
            "TrainingConfig(...), which takes the arguments of SAELens's LanguageModelSAERunnerConfig."
        )
    with torch.inference_mode(False), ranks_started(cfg):
        try:
            run = TrainingRun(cfg, console=console)
            run.run()
        except (ConfigError, TrainingStopped, KeyboardInterrupt, torch.OutOfMemoryError) as error:
            # a notebook keeps these, and with them the model, the SAEs and Adam's moments
            for cause in (error, *causes(error.__cause__), *causes(error.__context__)):
                clear_frames(cause.__traceback__)
            run = None
            raise
    for sae in run.saes.values():
        vars(sae).pop("training_forward_pass", None)  # that of a trainer, which would keep the model and Adam's moments
        sae.eval()
    return TrainingResult(folders={name: run.folder(name) for name in run.saes}, saes=run.saes)
