"""All markers, and their values for many texts."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from sae_lens_abstopk.text.markers import content, format, grammar, language, stance, topics, voice
from sae_lens_abstopk.text.markers.text_parts import Marker, TextParts

MARKERS: dict[str, Marker] = {
    **format.MARKERS,
    **stance.MARKERS,
    **voice.MARKERS,
    **grammar.MARKERS,
    **content.MARKERS,
    **topics.MARKERS,
    **language.MARKERS,
}
"""Markers by key; the first is ``length``, log (1 + words)."""


def measure(texts: Sequence[str]) -> Float[np.ndarray, "n markers"]:
    """Return ``MARKERS`` of each text; equal texts are read once."""
    rows = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    read = np.zeros((len(rows), len(MARKERS)), dtype=np.float32)
    for row, text in enumerate(rows):
        parts = TextParts(text)
        read[row] = [marker.measure(parts) for marker in MARKERS.values()]
    return read[[rows[text] for text in texts]]
