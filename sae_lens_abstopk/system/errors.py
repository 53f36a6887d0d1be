"""The exceptions that this package raises on purpose, and what their texts share."""

import difflib
from collections.abc import Iterable, Iterator

from huggingface_hub.errors import HfHubHTTPError

# huggingface_hub has changed its HTTP library twice; its own error still derives from that of the library
TRANSPORT_ERRORS: tuple[type[Exception], ...] = tuple(
    cls
    for cls in HfHubHTTPError.__mro__
    if issubclass(cls, Exception) and cls.__name__ in ("HTTPError", "RequestException")
)


class ConfigError(ValueError):
    """A setting, file or model that cannot be used: what was wrong, where, what is allowed, what to do."""


class FolderInUseError(ConfigError):
    """A folder that another process is writing."""


class HubError(RuntimeError):
    """The Hub, or the way to it, said no: what was being done, what came back, what to do."""


class TrainingStopped(RuntimeError):
    """A run that stopped itself: what had become unusable, where the last good state is, what to do."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'topk'?"`` where a known word is close to ``word``, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """``error``, and what it was raised from or in the handling of, back to the first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def caused_by(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether one of the :func:`causes` of ``error`` is of ``kind``."""
    return any(isinstance(cause, kind) for cause in causes(error))
