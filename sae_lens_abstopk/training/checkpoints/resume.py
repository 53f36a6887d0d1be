"""Decide whether a run starts, goes on from a checkpoint, or is finished."""

from pathlib import Path

from rich.console import Console
from sae_lens.constants import SAE_WEIGHTS_FILENAME, TRAINER_STATE_FILENAME

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.folder_lock import LOCK
from sae_lens_abstopk.training.checkpoints.checkpoint import MANIFEST, checkpoints, damage, newest_checkpoint
from sae_lens_abstopk.training.checkpoints.same_run import require_same_run
from sae_lens_abstopk.training.checkpoints.training_state import STATE
from sae_lens_abstopk.training.config.training_config import NEWEST, TrainingConfig
from sae_lens_abstopk.training.run_folder import CONFIG_FILENAME, METRICS_FILENAME, checkpoint_root, sae_folder
from sae_lens_abstopk.training.tracking.loggers import COLUMNS


def checkpoint_to_resume(cfg: TrainingConfig, console: Console) -> Path | None:
    """
    Find the whole checkpoint of ``cfg.resume_from_checkpoint``, if any; damaged ones are listed on ``console``.

    Raises:
        ConfigError: a named checkpoint is missing, damaged or from a run with other settings.
    """
    named = cfg.resume_from_checkpoint
    if named is None:
        return None
    if named == NEWEST:
        folder, torn = newest_checkpoint(checkpoint_root(cfg))
        for other, problem in torn.items():
            console.print(f"checkpoint {other} is skipped: {problem}", markup=False, soft_wrap=True)
    else:
        folder, remedy = Path(named), "name another one, or use --resume without a path to find the newest"
        problem = damage(folder) if folder.is_dir() else "there is no such folder"
        if (folder / TRAINER_STATE_FILENAME).is_file() and not any(
            (folder / name).exists() for name in (MANIFEST, STATE)
        ):
            problem = "it is of SAELens's own runner, without the mixing buffer and the position in the text"
            remedy = f"start a new run from its weights with from_pretrained_path={named!r}"
        if problem is not None:
            raise ConfigError(f"resume_from_checkpoint={named!r} is not a whole checkpoint: {problem}; {remedy}.")
    if folder is not None:
        require_same_run(folder, cfg)
    return folder


def resume_if_started(cfg: TrainingConfig) -> None:
    """Set the config to resume if the run folder holds an unfinished run."""
    if (Path(cfg.output_path or "") / CONFIG_FILENAME).is_file():
        cfg.resume_from_checkpoint = NEWEST


def is_finished(cfg: TrainingConfig) -> bool:
    """
    Return whether the run folder holds the final weights of all SAEs.

    Raises:
        ConfigError: it holds a run with other settings that took a step, or a config.yaml that no run wrote.
    """
    output = Path(cfg.output_path or "")
    _require_no_user_config(cfg)
    if _run_files(cfg):
        require_same_run(output, cfg)
    return all((sae_folder(output, name) / SAE_WEIGHTS_FILENAME).exists() for name in cfg.all_saes)


def refuse_to_overwrite(cfg: TrainingConfig) -> None:
    """
    Require that the run folder can be written without loss.

    Raises:
        ConfigError: it is a file, or holds a finished run, a run that shall not resume, or the user's own config.yaml.
    """
    output = Path(cfg.output_path or "")
    _require_no_user_config(cfg)
    resumes, files = cfg.resume_from_checkpoint is not None, _run_files(cfg)
    place = f"output_path={str(output)!r}"
    other = f"name another folder, or resume it with --resume (resume_from_checkpoint={NEWEST!r} in Python)"
    problem = None
    if output.is_file():
        problem = "is a file; name a folder"
    elif resumes and is_finished(cfg):
        problem = f"holds a finished run; name another folder, or load its SAE: SAE.load_from_disk({str(output)!r})"
    elif "checkpoints" in files and cfg.checkpoint_path is not None and not resumes:
        place, problem = f"checkpoint_path={cfg.checkpoint_path!r}", f"already holds checkpoints of a run; {other}"
    elif files and not (resumes and ("checkpoints" in files or (output / CONFIG_FILENAME).is_file())):
        problem = f"already holds a run ({', '.join(files)}); {other}"
    if problem is not None:
        raise ConfigError(f"{place} {problem}.")


def _run_files(cfg: TrainingConfig) -> list[str]:
    """List the SAE files and checkpoints in the run folder; empty before the first step."""
    output = Path(cfg.output_path or "")
    files = []
    for folder in (sae_folder(output, name) for name in cfg.all_saes):
        metrics = folder / METRICS_FILENAME
        took_step = metrics.is_file() and metrics.read_bytes().splitlines() not in ([], [",".join(COLUMNS).encode()])
        files += [path for path in [folder / SAE_WEIGHTS_FILENAME, *([metrics] if took_step else [])] if path.exists()]
    return [str(path.relative_to(output)) for path in files] + ["checkpoints"] * bool(checkpoints(checkpoint_root(cfg)))


def _require_no_user_config(cfg: TrainingConfig) -> None:
    """Raise if the run would overwrite a config.yaml that the user wrote: no other file of a run is beside it."""
    output = Path(cfg.output_path or "")
    by_runs = (LOCK, METRICS_FILENAME, SAE_WEIGHTS_FILENAME)
    if not (output / CONFIG_FILENAME).is_file() or any((output / name).exists() for name in by_runs):
        return
    if not checkpoints(checkpoint_root(cfg)):
        raise ConfigError(
            f"output_path={str(output)!r} holds a {CONFIG_FILENAME} that no run wrote and the run would overwrite; "
            "rename the file, or name another folder."
        )
