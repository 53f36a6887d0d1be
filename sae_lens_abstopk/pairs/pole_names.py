"""Short names of the two poles of an axis."""

from sae_lens_abstopk.pairs.pair_results import AxisRecord

WORDS = 3
NAMELESS = "no telling words"


def pole_names(axis: AxisRecord) -> tuple[str, str]:
    """Return names of the positive and of the negative pole: labels, or first words, or else the surface feature."""
    if axis.label:
        return axis.label.positive or NAMELESS, axis.label.negative or NAMELESS
    more, less = ("more", "less") if axis.mostly is None or axis.surface[axis.mostly] > 0 else ("less", "more")
    named = ((axis.words_positive, more), (axis.words_negative, less))
    positive, negative = (
        " · ".join(words[:WORDS]) or (f"{amount} {axis.mostly}" if axis.mostly else NAMELESS) for words, amount in named
    )
    return positive, negative
