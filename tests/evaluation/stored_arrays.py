"""Rows that no model gave, stored as those of :func:`represent`."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from sae_lens_abstopk.model.representations import Representations


def stored_arrays(x: Mapping[str, npt.ArrayLike], codes: Mapping[str, Mapping[str, npt.ArrayLike]]) -> Representations:
    """From activations by read position, [n, d_in] each, and codes by SAE and read position, [n, d_sae] each."""
    reads = tuple(x)
    n, d_in = np.shape(x[reads[0]])
    d_sae = {name: np.shape(by_read[reads[0]])[1] for name, by_read in codes.items()}
    with Representations._written(n, reads, d_in, d_sae) as (made, files):
        for name, by_read in {None: x, **codes}.items():
            for read in reads:
                files[name, read][:] = by_read[read]
    return made
