"""The exceptions of this package, and helpers for their messages."""

import difflib
import importlib.util
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from operator import ge, gt, le, lt
from typing import TypeVar

from huggingface_hub.errors import HfHubHTTPError

T = TypeVar("T")

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


@contextmanager
def as_config_error(
    kinds: type[Exception] | tuple[type[Exception], ...], message: Callable[[Exception], str]
) -> Iterator[None]:
    """Turn an error of ``kinds`` into a :class:`ConfigError` with its ``message``; one that is such already stays."""
    try:
        yield
    except ConfigError:
        raise
    except kinds as error:
        raise ConfigError(message(error)) from error


@contextmanager
def errors_in(where: str, remedy: str = "") -> Iterator[None]:
    """Put ``where`` before, and ``remedy`` behind, the message of a :class:`ConfigError`."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{where}{error}{remedy}") from None


def require_choice(key: str, value: Hashable, choices: Iterable[Hashable], *, remedy: str = "") -> None:
    """Raise a :class:`ConfigError` if ``value`` is not one of ``choices``; it names the one that is nearest."""
    known = list(choices)
    if value not in known:
        names = list(map(str, known))
        wanted = "one of " * (len(names) > 1) + (", ".join(names) or "among these: none")
        raise ConfigError(f"{key}={value!r} must be {wanted}{remedy}{did_you_mean(str(value), names) or '.'}")


def require_given(key: str, value: T | None, remedy: str) -> T:
    """Return a value; raise a :class:`ConfigError` if it is missing, empty or 0."""
    if value is None or not (len(value) if isinstance(value, Sized) else value):
        raise ConfigError(f"{key} is missing; {remedy}.")
    return value


def require_one(values: Mapping[str, object], *, or_none: bool = False) -> None:
    """Raise a :class:`ConfigError` unless one of ``values``, by key, is given, that is, is not None."""
    given = [key for key, value in values.items() if value is not None]
    if len(given) > 1 or not (given or or_none):
        raise ConfigError(f"give {' or '.join(values)}, not {'both' if given else 'neither'}.")


def require_distinct(what: str, values: Iterable[Hashable], *, remedy: str = "take one out") -> None:
    """Raise a :class:`ConfigError` if two of ``values`` are equal."""
    seen: set[Hashable] = set()
    for value in values:
        if value in seen:
            raise ConfigError(f"{what} {value!r} comes twice; {remedy}.")
        seen.add(value)


def require_same_width(
    name: str, width: int, reader: str, d_in: int, *, remedy: str = "give those that belong together"
) -> None:
    """Raise a :class:`ConfigError` if the vectors or the hook ``name`` have another width than ``reader`` takes."""
    if width != d_in:
        raise ConfigError(f"{name} is {width} wide, and {reader} takes {d_in}; {remedy}.")


def require_package(package: str, needed_by: str, *, extra: str = "") -> None:
    """Raise a :class:`ConfigError` if an optional package is missing; ``extra``, or that of its name, installs it."""
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"{needed_by} needs {package}: pip install 'sae-lens-abstopk[{extra or package}]'.")


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
    bounds = [("above", above, gt), ("at least", at_least, ge), ("below", below, lt), ("at most", at_most, le)]
    given = [(word, bound, holds) for word, bound, holds in bounds if bound is not None]
    if value is not None and not (math.isfinite(value) and all(holds(value, bound) for _, bound, holds in given)):
        limits = [f"{word} {bound}" for word, bound, _ in given]
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
