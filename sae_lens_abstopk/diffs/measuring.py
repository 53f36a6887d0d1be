"""Measure SAEs on the differences of two models: from held-out text to the record and the contexts to show."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from sae_lens import SAE
from scipy.sparse import csc_array
from torch.nn.functional import cosine_similarity

from sae_lens_abstopk.diffs.diff_files import Diff
from sae_lens_abstopk.diffs.diff_results import DiffLatentRecord, DiffPoleRecord, DiffResults
from sae_lens_abstopk.diffs.fit_measures import fit_record, mean_energy, recovered, stability_of
from sae_lens_abstopk.diffs.held_out import HeldOut
from sae_lens_abstopk.diffs.latent_kl import estimated_rises, measured_rises
from sae_lens_abstopk.diffs.patching import BASE, CEILING, MEAN, divergences, reconstruction
from sae_lens_abstopk.diffs.token_contexts import codes_of_tokens, token_contexts
from sae_lens_abstopk.evaluation.results.bootstrap import mean_estimate, ratio_estimates
from sae_lens_abstopk.evaluation.results.facts import origin_facts
from sae_lens_abstopk.evaluation.results.records import Interval
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.saes.geometry import share_found
from sae_lens_abstopk.saes.signed import is_signed

MEASURED, TOKENS_OF_LATENTS = 16, 4096
SCALE_QUANTILE = 0.99


def measure(
    pair: ModelPair,
    saes: Mapping[str, Sequence[SAE[Any]]],
    held_out: HeldOut,
    *,
    kind: str,
    k: float,
    data: str,
    training: Mapping[str, Any],
    halves: Sequence[SAE[Any]] = (),
    n_latents: int = MEASURED,
    tokens_of_latents: int = TOKENS_OF_LATENTS,
    seed: int = 0,
    on_pass: Callable[[], None] = lambda: None,
) -> Diff:
    """
    Measure SAEs of several kinds and seeds, and describe the latents of the most stable one of a kind.

    Args:
        pair: The models that ``held_out`` was read from.
        saes: Of each kind, the SAEs of its seeds, for inference.
        kind: The kind to show.
        k: Active latents of a token, as trained.
        data: Name of the text.
        training: Facts to record.
        halves: SAEs of that kind trained on disjoint halves of the text.
        n_latents: The KL of as many latents is measured, those of the largest estimate.
        tokens_of_latents: It is measured on the first contexts, with as many tokens or a few more.
        seed: Seed of the intervals.
        on_pass: Called :func:`n_passes` times.
    """
    stability = stability_of(saes[kind])
    shown = stability.best_seed
    sae = saes[kind][shown]
    patches = {f"{name} {i}": reconstruction(each) for name, of in saes.items() for i, each in enumerate(of)}
    found = divergences(pair, held_out, patches, on_pass=on_pass)
    by_patch = found.by_patch
    seeds = {name: [by_patch[f"{name} {i}"] for i in range(len(of))] for name, of in saes.items()}
    means = {name: np.mean(parts, axis=0) for name, parts in seeds.items()}
    shares = recovered({each: by_patch[each] for each in (BASE, CEILING, MEAN)} | means, BASE, held_out, seed=seed)
    total = by_patch[BASE].sum()
    fits = {
        name: fit_record(of, held_out, shares[name], [float(1 - each.sum() / total) for each in seeds[name]], seed=seed)
        for name, of in saes.items()
    }
    rises = estimated_rises(pair, held_out, sae, on_pass=on_pass) / total
    first = np.argsort(-np.abs(rises.sum(0)), kind="stable").tolist()
    sample = _sample(held_out, tokens_of_latents)
    measured = measured_rises(pair, sample, sae, first[:n_latents], on_pass=on_pass)
    codes = codes_of_tokens(sae, held_out)
    parts = LatentParts(
        kl=_shares(measured, by_patch[BASE][: len(sample.tokens)], sample, seed=seed),
        estimates=rises,
        codes=codes,
        n_tokens=int(held_out.kept.sum()),
        stability=stability.found[shown],
        halves=share_found(sae.W_dec, [half.W_dec for half in halves], signed=is_signed(sae)),
        cosine=cosine_similarity(sae.W_dec.detach().cpu().float(), held_out.mean[None]).numpy(),
    )
    latents = sorted((parts.record(latent) for latent in first), key=_rank)
    spec = pair.spec
    results = DiffResults(
        **origin_facts(pair.spec.device),
        base=spec.model_name,
        tuned=spec.tuned,
        hook=spec.hook_name,
        data=data,
        unit=held_out.unit,
        n_units=len(held_out.documents.unique()),
        n_tokens=parts.n_tokens,
        n_predictions=by_patch[BASE].size,
        n_predictions_latents=by_patch[BASE][: len(sample.tokens)].size,
        seed=seed,
        kind=kind,
        shown_seed=shown,
        d_sae=sae.cfg.d_sae,
        k=k,
        training=dict(training),
        fvu=fits[kind].fvu,
        mean_energy=mean_energy(held_out, seed=seed),
        kl=mean_estimate(by_patch[BASE].ravel(), groups=held_out.documents_of_predictions, seed=seed),
        kl_recovered=shares[kind],
        kl_ceiling=shares[CEILING],
        kl_mean_difference=shares[MEAN],
        fits=fits,
        latents=latents,
    )
    contexts = token_contexts(held_out, codes, found, [each.latent for each in latents], pair.tokenizer)
    return Diff(results, contexts)


def n_passes(
    saes: Mapping[str, Sequence[SAE[Any]]],
    held_out: HeldOut,
    *,
    n_latents: int = MEASURED,
    tokens_of_latents: int = TOKENS_OF_LATENTS,
) -> int:
    """Return the number of calls of ``on_pass`` in :func:`measure`."""
    parts, sampled = (len(list(each.passes())) for each in (held_out, _sample(held_out, tokens_of_latents)))
    patches = 3 + sum(map(len, saes.values()))
    return parts * (patches + 1) + sampled * n_latents


def _sample(held_out: HeldOut, n_tokens: int) -> HeldOut:
    """Return the first contexts, with ``n_tokens`` or a few more."""
    return held_out.rows(slice(-(-n_tokens // held_out.tokens.shape[1])))


class LatentParts(NamedTuple):
    """Measurements of all latents, from which the record of each is made."""

    kl: dict[tuple[int, int], Interval]
    estimates: Float[np.ndarray, "2 F"]
    codes: csc_array
    n_tokens: int
    stability: Float[np.ndarray, " F"]
    halves: Float[np.ndarray, " F"]
    cosine: Float[np.ndarray, " F"]

    def record(self, latent: int) -> DiffLatentRecord:
        """Make the record of one latent."""
        values = self.codes[:, [latent]].data
        return DiffLatentRecord(
            latent=latent,
            kl_share=self.kl.get((latent, 0)),
            kl_estimate=float(self.estimates[:, latent].sum()),
            positive=self._pole(latent, 1, values[values > 0]),
            negative=self._pole(latent, -1, values[values < 0]),
            share_active=len(values) / self.n_tokens,
            stability=_number(self.stability[latent]),
            stability_halves=_number(self.halves[latent]),
            mean_cosine=float(self.cosine[latent]),
        )

    def _pole(self, latent: int, side: int, values: Float[np.ndarray, " m"]) -> DiffPoleRecord:
        return DiffPoleRecord(
            share_active=len(values) / self.n_tokens,
            scale=float(np.quantile(np.abs(values), SCALE_QUANTILE)) if len(values) else 0.0,
            kl_share=self.kl.get((latent, side)),
            kl_estimate=float(self.estimates[0 if side > 0 else 1, latent]),
        )


def _shares(
    measured: Mapping[tuple[int, int], Float[np.ndarray, "N predictions"]],
    base: Float[np.ndarray, "N predictions"],
    sample: HeldOut,
    *,
    seed: int,
) -> dict[tuple[int, int], Interval]:
    """Return the rises as shares of KL(tuned || base), by latent and side."""
    rises = np.stack([each.ravel() for each in measured.values()], axis=1)
    below = base.reshape(-1, 1).repeat(len(measured), 1)
    every = ratio_estimates(rises, below, groups=sample.documents_of_predictions, seed=seed)
    return dict(zip(measured, every, strict=True))


def _rank(latent: DiffLatentRecord) -> tuple[bool, float]:
    """Sort measured latents first, each part by falling KL share."""
    share = latent.kl_share
    return share is None, -((share.value or 0) if share else latent.kl_estimate)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
