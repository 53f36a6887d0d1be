"""The question with which a language model names the poles of latents."""

from collections.abc import Sequence

from sae_lens_abstopk.evaluation.labelling.labeler import Question, Sides
from sae_lens_abstopk.explorer.latents import Latent
from sae_lens_abstopk.system.pages import assets

EXCERPTS = 6
LATENTS = Question(assets("explorer") / "labeler_prompt.txt.j2", assets("explorer") / "planted.yaml")


def sides_of(latent: Latent) -> Sides:
    """Return the strongest contexts of both poles."""
    return Sides(
        *([excerpt(each.tokens, each.at) for each in pole.strongest[:EXCERPTS]] for pole in latent.poles[::-1])
    )


def excerpt(tokens: Sequence[str], at: int) -> str:
    """Format a context on one line, the token ``at`` between << and >>."""
    before, token, after = tokens[:at], tokens[at], tokens[at + 1 :]
    space = token[: len(token) - len(token.lstrip(" "))]
    text = f"{''.join(before)}{space}<<{token[len(space) :]}>>{''.join(after)}"
    return " ".join(text.split())
