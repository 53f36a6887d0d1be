"""The axes along which the texts of pairs differ: the latents of a signed SAE of their differences."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from sae_lens import SAE
from typing_extensions import override

from sae_lens_abstopk.model.answer_tokens import Answer
from sae_lens_abstopk.model.answer_vectors import Reading
from sae_lens_abstopk.model.model_spec import resolve_device
from sae_lens_abstopk.pairs.fit_axes import fit_axes
from sae_lens_abstopk.pairs.fitting import require_sizes, require_width
from sae_lens_abstopk.pairs.measuring import encoded
from sae_lens_abstopk.pairs.page import write_views
from sae_lens_abstopk.pairs.pair_files import SAE_FOLDER, write_codes
from sae_lens_abstopk.pairs.pair_results import PairResults
from sae_lens_abstopk.pairs.pair_set import PairSet, Turn
from sae_lens_abstopk.pairs.pair_vectors import TextVectors, differences_of_arrays, differences_of_texts
from sae_lens_abstopk.pairs.split import components, held_out_rows
from sae_lens_abstopk.pairs.tables import axes_table
from sae_lens_abstopk.pairs.telling_apart import ConceptRecord
from sae_lens_abstopk.system.errors import ConfigError, require_given, require_one
from sae_lens_abstopk.system.files import require_empty
from sae_lens_abstopk.system.shown import Facts, Shown
from sae_lens_abstopk.vectors.vectors import Vectors


@dataclass(frozen=True, repr=False, eq=False)
class PairAxes(Shown):
    """Axes fitted to pairs; made by :meth:`fit`."""

    sae: SAE[Any]
    """
    The signed SAE of the seed with the most stable axes; it takes raw differences [n, d_in].

    Its codes are odd: swapping A and B negates them. With preferences, the positive pole of each axis is what was
    preferred more often in training pairs; without, signs are arbitrary.
    """
    results: PairResults
    pairs: PairSet
    codes: Float[np.ndarray, "n F"]
    """Code of each pair; positive where A has more of the positive pole."""
    vectors: TextVectors | None
    """Reads further texts; None if the vectors were given."""

    @classmethod
    def fit(
        cls,
        pairs: PairSet,
        *,
        model: str | None = None,
        layer: int | None = None,
        hook_name: str | None = None,
        reading: Reading = "mean",
        arrays: tuple[Any, Any] | None = None,
        d_sae: int = 32,
        k: float = 4,
        seeds: int = 5,
        baselines: bool = True,
        held_out: float = 0.2,
        max_tokens: int = 1024,
        float32: bool = False,
        seed: int = 0,
        device: str = "auto",
        console: Console | None = None,
    ) -> Self:
        """
        Embed both texts of each pair, train signed SAEs on the differences A - B, and measure them on held-out pairs.

        Args:
            pairs: From :func:`~.reading.read_pairs`.
            model: A language model, or a sentence-transformers model: Hub id or folder.
            layer: Layer of a language model whose output is read; the middle one by default.
            hook_name: Another module of a language model to read.
            reading: The mean over the tokens of a text, or ``last`` for its last token.
            arrays: In place of a model, the vectors of all rows of the data, first texts and second texts, each
                [rows, d_in].
            d_sae: Number of axes.
            k: Mean number of active axes of a pair.
            seeds: SAEs of as many seeds train in one pass; a stable axis is in most of them.
            baselines: Train one-sided SAEs of ``d_sae`` and of twice as many latents beside them.
            held_out: Share of the pairs to measure on; no prompt or text is on both sides.
            max_tokens: Most tokens of a text with its prompt.
            float32: Read in float32, also where bfloat16 is faster.
            seed: Seed of the split, the first SAE and the intervals.
            console: Shows progress.

        Raises:
            ConfigError: before anything is embedded or trained, if the model, the arrays or a size cannot be used.
        """
        console, device = console or Console(quiet=True), resolve_device("device", device)
        require_one({"model=": model, "arrays=": arrays})
        require_sizes(d_sae=d_sae, k=k, seeds=seeds)
        group = components(pairs)
        test = held_out_rows(group, share=held_out, seed=seed)
        vectors = None
        if arrays is not None:
            first, second = (
                Vectors.of_array(array, name=f"vectors of {side}") for array, side in zip(arrays, "AB", strict=True)
            )
            differences = differences_of_arrays((first, second), pairs.rows, pairs.swapped, test)
            origin: dict[str, Any] = {"arrays": [first.name, second.name]}
        else:
            assert model is not None
            reads: dict[str, Any] = {"reading": reading, "max_tokens": max_tokens, "float32": float32}
            vectors = TextVectors.of(model, layer=layer, hook_name=hook_name, device=device, **reads)
            require_width(d_sae, vectors.width())
            differences = differences_of_texts(pairs, vectors, test, console=console)
            origin = vectors.facts()
        differences.require_sound()
        require_width(d_sae, differences.d_in)
        sizes: dict[str, Any] = {"d_sae": d_sae, "k": k, "seeds": seeds, "baselines": baselines, "seed": seed}
        fitted = fit_axes(pairs, differences, group, **sizes, origin=origin, device=device, console=console)
        return cls(fitted.sae, fitted.results, pairs, fitted.codes, vectors)

    @torch.no_grad()
    def encode(
        self, a: Sequence[str], b: Sequence[str], *, prompts: Sequence[str | tuple[Turn, ...]] | None = None
    ) -> Float[torch.Tensor, "n F"]:
        """
        Return the codes of further pairs: positive where the text in ``a`` has more of the positive pole.

        Args:
            prompts: What both texts of each pair answer: a user's turn, or turns.

        Raises:
            ConfigError: the axes were fitted to arrays; take ``axes.sae.encode(a_vectors - b_vectors)``.
        """
        remedy = "use axes.sae.encode(vectors of A - vectors of B)"
        vectors = require_given("the model of axes that were fitted to arrays", self.vectors, remedy)
        if not len(a) == len(b) == len(a if prompts is None else prompts):
            raise ConfigError(f"a has {len(a)} texts and b {len(b)}; give as many of each, and as many prompts.")
        before = [(("user", each),) if isinstance(each, str) else each for each in prompts or [()] * len(a)]
        answers = [Answer(turns, text) for side in (a, b) for turns, text in zip(before, side, strict=True)]
        found = vectors.read(answers).rows(torch.arange(len(answers)))
        return encoded(self.sae, (found[: len(a)] - found[len(a) :]).to(self.sae.W_enc))

    def direction(self, axis: int) -> Float[torch.Tensor, " d_in"]:
        """Return the decoder row of an axis: towards its positive pole, in the units of the activation."""
        return self.sae.W_dec[axis].detach()

    def scale(self, axis: int) -> float:
        """
        Return the 99th percentile of |code| where the axis is active: a strength of 1 in ``steer``.

        ``steer(model, axes.sae, latent=axis, strength=1.0, scale=axes.scale)`` moves every token of a language model
        towards the positive pole.

        Raises:
            ConfigError: the axis is active on no pair.
        """
        found = self.results.axes[axis].scale
        return require_given(f"the scale of axis {axis}", found, "it is active on no pair, so give scale=NUMBER")

    def table(self) -> Table:
        """Make a table of at most 80 columns, the axes that matter most first."""
        return axes_table(self.results)

    def report(self, folder: str | Path, *, concepts: Sequence[ConceptRecord] = ()) -> Path:
        """
        Write the page, ``pairs.json``, ``axes.csv``, the codes and the SAE into a new or empty folder.

        With preferences, also ``effects.svg``, the figure of :func:`~.pair_figure.effects_figure`. Known ``concepts``
        stand in a table on the page.

        Returns:
            The page, ``index.html``.
        """
        folder = Path(folder)
        require_empty(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.sae.save_model(folder / SAE_FOLDER)
        write_codes(folder, self.pairs, self.codes)
        return write_views(folder, self.results, self.pairs, self.codes, concepts=concepts)

    @override
    def _facts(self) -> Facts:
        found = self.results
        facts = {"pairs": found.n_pairs, "axes": found.d_sae, "FVU": str(found.signed.fvu)}
        if found.preference:
            facts["AUC"] = str(found.preference.auc_codes)
        return [facts]
