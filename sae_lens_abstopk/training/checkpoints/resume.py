"""Whether a run may begin in its folder, is finished there, or goes on, and from which checkpoint."""

from pathlib import Path

from rich.console import Console
from sae_lens.constants import SAE_WEIGHTS_FILENAME, TRAINER_STATE_FILENAME

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.folder_lock import LOCK
from sae_lens_abstopk.training.checkpoints.checkpoint import MANIFEST, checkpoints, damage, newest_checkpoint
from sae_lens_abstopk.training.checkpoints.same_run import require_same_run
from sae_lens_abstopk.training.checkpoints.training_state import STATE
from sae_lens_abstopk.training.config.training_config import NEWEST, TrainingConfig
from sae_lens_abstopk.training.run_folder import (
    CHECKPOINTS,
    CONFIG_FILENAME,
    METRICS_FILENAME,
    checkpoint_root,
    sae_folder,
)
from sae_lens_abstopk.training.tracking.loggers import COLUMNS


def checkpoint_to_resume(cfg: TrainingConfig, console: Console) -> Path | None:
    """
    The whole checkpoint that ``cfg.resume_from_checkpoint`` asks for; None where the run starts from the beginning.

    Torn checkpoints that are newer are named on ``console``.

    Raises:
        ConfigError: a named checkpoint is missing or torn, or what is there is of a run with other settings.
    """
    asked = cfg.resume_from_checkpoint
    if asked is None:
        return None
    if asked == NEWEST:
        folder, torn = newest_checkpoint(checkpoint_root(cfg))
        for other, problem in torn.items():
            console.print(f"checkpoint {other} is skipped: {problem}", markup=False, soft_wrap=True)
    else:
        folder = Path(asked)
        ours = any((folder / name).exists() for name in (MANIFEST, STATE))
        if not ours and (folder / TRAINER_STATE_FILENAME).is_file():
            raise ConfigError(
                f"resume_from_checkpoint={asked!r} is a checkpoint of SAELens's own runner, which lacks the mixing buffer and the "
                f"position in the text; start a new run from its weights with from_pretrained_path={asked!r}."
            )
        problem = damage(folder) if folder.is_dir() else "there is no such folder"
        if problem is not None:
            raise ConfigError(
                f"resume_from_checkpoint={asked!r} is no whole checkpoint: {problem}. Name another one, or let --resume "
                "without a path find the newest."
            )
    if folder is not None:
        require_same_run(folder, cfg)
    return folder


def resume_if_started(cfg: TrainingConfig) -> None:
    """Let a run go on where its folder holds the beginning of one."""
    if (Path(cfg.output_path or "") / CONFIG_FILENAME).is_file():
        cfg.resume_from_checkpoint = NEWEST


def is_finished(cfg: TrainingConfig) -> bool:
    """
    Whether the run folder holds what the run leaves at its end: the weights of all its SAEs.

    Raises:
        ConfigError: it holds a run with other settings, or the beginning of one that took a step, or a config.yaml that no run wrote.
    """
    output = Path(cfg.output_path or "")
    _refuse_config_of_nobody(cfg)
    if _left(cfg):
        require_same_run(output, cfg)
    return all((sae_folder(output, name) / SAE_WEIGHTS_FILENAME).exists() for name in cfg.all_saes)


def refuse_to_overwrite(cfg: TrainingConfig) -> None:
    """
    Refuse a run folder that a run may not be written to.

    Raises:
        ConfigError: it is a file, or holds a run that is finished or that is not to be gone on with, or a config.yaml that no
            run wrote.
    """
    output = Path(cfg.output_path or "")
    if output.exists() and not output.is_dir():
        raise ConfigError(f"output_path={str(output)!r} is a file; name a folder.")
    _refuse_config_of_nobody(cfg)
    resumes = cfg.resume_from_checkpoint is not None
    if resumes and is_finished(cfg):
        raise ConfigError(
            f"output_path={str(output)!r} holds a run that is finished; take its SAE from there (SAE.load_from_disk({str(output)!r})), "
            "or name another folder."
        )
    taken = _left(cfg)
    has_checkpoints = CHECKPOINTS in taken
    if has_checkpoints and cfg.checkpoint_path is not None and not resumes:
        raise ConfigError(
            f"checkpoint_path={cfg.checkpoint_path!r} already holds checkpoints of a run; name another folder, or go on with "
            f"that run by --resume (resume_from_checkpoint={NEWEST!r} in Python)."
        )
    known = has_checkpoints or (output / CONFIG_FILENAME).is_file()
    if taken and not (resumes and known):
        raise ConfigError(
            f"output_path={str(output)!r} already holds a run ({', '.join(taken)}); choose another folder, move that "
            f"one away, or go on with it by --resume (resume_from_checkpoint={NEWEST!r} in Python)."
        )


def _left(cfg: TrainingConfig) -> list[str]:
    """What a run that took a step has left in its folder: files of its SAEs, and checkpoints."""
    output = Path(cfg.output_path or "")
    files = [file for name in cfg.all_saes for file in _left_in(sae_folder(output, name))]
    return [str(file.relative_to(output)) for file in files] + (
        [CHECKPOINTS] if checkpoints(checkpoint_root(cfg)) else []
    )


def _left_in(folder: Path) -> list[Path]:
    """What a run has left in the folder of one of its SAEs; metrics without a row are of one that took no step."""
    metrics = folder / METRICS_FILENAME
    took_no_step = metrics.is_file() and metrics.read_bytes().splitlines() in ([], [",".join(COLUMNS).encode()])
    files = [folder / SAE_WEIGHTS_FILENAME, *([] if took_no_step else [metrics])]
    return [file for file in files if file.exists()]


def _refuse_config_of_nobody(cfg: TrainingConfig) -> None:
    """A config.yaml where no run has left anything else is the user's own, which that of the run would replace."""
    output = Path(cfg.output_path or "")
    by_runs = (LOCK, METRICS_FILENAME, SAE_WEIGHTS_FILENAME)
    if not (output / CONFIG_FILENAME).is_file() or any((output / name).exists() for name in by_runs):
        return
    if not checkpoints(checkpoint_root(cfg)):
        raise ConfigError(
            f"output_path={str(output)!r} holds a {CONFIG_FILENAME} that no run wrote, and the run would write its own there; "
            "name another folder, or give that file another name."
        )
