"""Calls to the Hub: a bounded number of retries where one may help, and one clear sentence where none does."""

import logging
import time
from collections.abc import Callable
from json import JSONDecodeError
from typing import TypeVar

from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

from sae_lens_abstopk.system.errors import TRANSPORT_ERRORS, ConfigError, HubError, caused_by, causes

_logger = logging.getLogger(__name__)
T = TypeVar("T")
ATTEMPTS = 4
LONGEST_REASON = 500
MAY_PASS = (408, 429, 500, 502, 503, 504)


def ask(call: Callable[[], T], *, doing: str, repo_id: str) -> T:
    """
    The result of ``call``, tried again where the Hub is busy or failing, or the connection was lost; each wait is logged.

    Args:
        call: One that may be repeated.
        doing: What it does, for the error: "publishing to user/name".
        repo_id: The repository.

    Raises:
        HubError: it failed for good.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return call()
        except (HubError, ConfigError):
            raise
        except Exception as error:  # the Hub's client raises errors of many libraries
            if attempt == ATTEMPTS or not is_passing(error):
                raise HubError(f"{doing} failed: {explain(error, repo_id)}") from error
            seconds, met = 2 ** (attempt - 1), status_of(error) or type(error).__name__
            _logger.warning("%s failed (%s); trying again in %d s", doing, met, seconds)
            time.sleep(seconds)
    raise AssertionError("unreachable")


def require_repo_id(repo_id: str) -> None:
    """
    Refuse what cannot be the name of a repository, before the Hub is asked.

    Raises:
        ConfigError: it is not USER/NAME.
    """
    try:
        validate_repo_id(repo_id)
        if "/" not in repo_id:
            raise HFValidationError("the user or organisation is missing.")
    except HFValidationError as error:
        raise ConfigError(f"{repo_id!r} cannot be a repository (USER/NAME): {error}") from None


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind ``error``, if there was an answer at all."""
    for cause in causes(error):
        response = getattr(cause, "response", None)
        if response is not None:
            return response.status_code
    return None


def is_passing(error: BaseException) -> bool:
    """Whether the same call may work a little later."""
    status = status_of(error)
    if status is not None:
        return status in MAY_PASS
    return _connection_lost(error) or _unreadable(error)


def explain(error: BaseException, repo_id: str) -> str:
    """What came back and what to do, in a few sentences without the token."""
    status = status_of(error)
    if caused_by(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so nothing may be asked of the Hub; unset it."
    if caused_by(error, GatedRepoError):
        return f"{repo_id} is gated; ask for access on its page, {constants.ENDPOINT}/{repo_id}.{_reason(error)}"
    changed = f"{repo_id} has changed meanwhile ({status}); look at what is there now."
    sentences = {
        401: f"you are not logged in to the Hub (401), or {repo_id} does not exist or is hidden from you; set HF_TOKEN or run "
        "`hf auth login`.",
        403: f"the token may not do that to {repo_id} (403); use one with write access to it.",
        404: f"{repo_id}, or the revision or file asked for, is not on the Hub (404), or it is private and the token "
        "may not see it; check the name.",
        409: changed,
        412: changed,
        429: f"the Hub limits the rate of requests (429), and still did after {ATTEMPTS} tries; try again later.",
    }
    if status in sentences:
        return sentences[status] + _reason(error)
    if status is not None and status >= 500:
        return f"the Hub answered {status} {ATTEMPTS} times; try again later."
    if status is None and _connection_lost(error):
        return f"the connection to {constants.ENDPOINT} was lost or could not be made; check the network and try again."
    if status is None and _unreadable(error):
        return f"the Hub's answer could not be read, {ATTEMPTS} times; check the network and try again later."
    if status is not None and (reason := _reason(error)):
        return f"the Hub refused that ({status}).{reason}"
    # the client puts the address and the request on the first line, and what is wrong on later ones
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and "Request ID" not in line]
    return f"{type(error).__name__}: {' '.join(lines) or 'no more is known'}"


def _reason(error: BaseException) -> str:
    """What the Hub itself says, as a sentence to append; nothing where it says nothing."""
    said = next((said for cause in causes(error) if (said := getattr(cause, "server_message", None))), "")
    return f" The Hub says: {' '.join(said.split())[:LONGEST_REASON].rstrip('.')}." if said else ""


def _connection_lost(error: BaseException) -> bool:
    kinds = (*TRANSPORT_ERRORS, ConnectionError, TimeoutError, LocalEntryNotFoundError)
    return any(isinstance(cause, kinds) and not isinstance(cause, OfflineModeIsEnabled) for cause in causes(error))


def _unreadable(error: BaseException) -> bool:
    """Whether the answer was not what the client expects, as a page of a proxy in between."""
    return caused_by(error, JSONDecodeError)
