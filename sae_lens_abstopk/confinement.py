"""Names that come out of a file, kept inside the folder that they are meant for."""

from pathlib import Path, PurePosixPath, PureWindowsPath

from sae_lens_abstopk.errors import ConfigError


def inside(folder: Path, name: str, *, where: str) -> Path:
    """
    The path of ``name`` in ``folder``.

    Args:
        folder: Need not exist.
        name: Relative, as a file from elsewhere has it.
        where: What names it, for errors.

    Raises:
        ConfigError: it is absolute, or ``..`` or a link leads out of the folder.
    """
    path = folder / name
    if leads_up(name) or not path.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"{where}: {name!r} leads out of {folder}; only what lies in that folder is read.")
    return path


def leads_up(name: str) -> bool:
    """Whether a relative name is none, or goes up, on any system."""
    kinds = (PurePosixPath(name), PureWindowsPath(name))
    return not name or any(path.is_absolute() or path.drive or ".." in path.parts for path in kinds)
