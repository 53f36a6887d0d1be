"""Turn errors of huggingface_hub into one sentence and a remedy."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from sae_lens_abstopk.system.errors import HubError, caused_by, causes

CHANGED = "the repository has changed meanwhile; look at what is there now and run the command again"
REMEDIES = {
    401: "set HF_TOKEN or run `hf auth login`, and check the name",
    403: "use a token with the rights to do this; a gated repository gives access on its page",
    404: "check the name; a private repository needs a token that may see it",
    409: CHANGED,
    412: CHANGED,
}


@contextmanager
def hub_errors(doing: str) -> Iterator[None]:
    """
    Raise any error of the Hub's client, which does its own retries, as one sentence.

    Args:
        doing: Start of the sentence, such as "publishing to user/name".

    Raises:
        HubError: with the Hub's message, its status and the remedy.
    """
    try:
        yield
    except Exception as error:  # the client raises errors of several libraries
        raise HubError(f"{doing} failed{_reason(error)}") from error


def _reason(error: Exception) -> str:
    answers = [cause for cause in causes(error) if isinstance(cause, HfHubHTTPError)]
    said = next((answer.server_message for answer in answers if answer.server_message), str(error))
    said = " ".join(said.split())[:500].rstrip(".") or type(error).__name__
    if caused_by(error, OfflineModeIsEnabled):
        return f": {said}; unset HF_HUB_OFFLINE."
    if not answers:
        return f": {said}; check the network ({constants.ENDPOINT}) and run the command again."
    status = answers[0].response.status_code
    remedy = REMEDIES.get(status, "try again later; what has arrived is not sent again")
    return f" ({status}): {said}." if status == 400 else f" ({status}): {said}; {remedy}."
