"""The exceptions of this package, and helpers for their messages."""

import difflib
import math
from collections.abc import Iterable, Iterator

from huggingface_hub.errors import HfHubHTTPError

# huggingface_hub has changed its HTTP library twice; its error still derives from the library's
TRANSPORT_ERRORS: tuple[type[Exception], ...] = tuple(
    cls
    for cls in HfHubHTTPError.__mro__
    if issubclass(cls, Exception) and cls.__name__ in ("HTTPError", "RequestException")
)


class ConfigError(ValueError):
    """A setting, file or model cannot be used; the message names the value, what is allowed and the remedy."""


class FolderInUseError(ConfigError):
    """Another process is writing the folder."""


class HubError(RuntimeError):
    """The Hub rejected a request or is unreachable; the message names the request, the answer and the remedy."""


class TrainingStopped(RuntimeError):
    """A training run cannot go on; the message names the reason, the last good state and the remedy."""


def require_choice(key: str, value: str, choices: Iterable[str]) -> None:
    """Raise a :class:`ConfigError` if ``value`` is not one of ``choices``."""
    if value not in choices:
        raise ConfigError(f"{key}={value!r} is not known; use one of {', '.join(choices)}.")


def require_range(
    key: str,
    value: float | None,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    remedy: str = "",
) -> None:
    """Raise a :class:`ConfigError` if a number is out of range or not finite; None is always allowed."""
    bounds = {"above": above, "at least": at_least, "below": below, "at most": at_most}
    inside = value is None or (
        math.isfinite(value)
        and (above is None or value > above)
        and (at_least is None or value >= at_least)
        and (below is None or value < below)
        and (at_most is None or value <= at_most)
    )
    if not inside:
        limits = [f"{word} {bound}" for word, bound in bounds.items() if bound is not None]
        wanted = " and ".join(["finite", *limits] if value == math.inf else limits)
        raise ConfigError(f"{key}={value!r} must be {wanted}{remedy}.")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'topk'?"`` if a known word is close to ``word``, else an empty text."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield ``error`` and the chain of its causes and contexts."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def caused_by(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Return whether ``error``, or one of its causes, is of ``kind``."""
    return any(isinstance(cause, kind) for cause in causes(error))
