"""Measure SAEs on the differences of two models: from held-out text to the record and the contexts to show."""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sae_lens import SAE
from torch.nn.functional import cosine_similarity

from sae_lens_abstopk.diffs.diff_files import Diff
from sae_lens_abstopk.diffs.diff_results import DiffLatentRecord, DiffPoleRecord, DiffResults
from sae_lens_abstopk.diffs.fit_measures import fit_record, level, mean_energy, recovered, stability_of
from sae_lens_abstopk.diffs.held_out import HeldOut
from sae_lens_abstopk.diffs.latent_kl import estimated_rises, measured_rises
from sae_lens_abstopk.diffs.patching import BASE, CEILING, MEAN, divergences, reconstruction
from sae_lens_abstopk.diffs.principal_components import component_patches, component_records
from sae_lens_abstopk.diffs.token_contexts import codes_of_tokens, token_contexts
from sae_lens_abstopk.evaluation.results.bootstrap import mean_estimate, ratio_estimates
from sae_lens_abstopk.evaluation.results.facts import origin_facts
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.saes.seed_stability import share_found
from sae_lens_abstopk.saes.signed import is_signed
from sae_lens_abstopk.system.terminal import PassProgress

MEASURED, TOKENS_OF_LATENTS = 10, 4096
SCALE_QUANTILE = 0.99


def measure(
    pair: ModelPair,
    saes: Mapping[str, Sequence[SAE[Any]]],
    held_out: HeldOut,
    *,
    train_x: Float[torch.Tensor, "n d_in"],
    kind: str,
    k: float,
    data: str,
    training: Mapping[str, Any],
    halves: Sequence[SAE[Any]] = (),
    n_latents: int = MEASURED,
    tokens_of_latents: int = TOKENS_OF_LATENTS,
    seed: int = 0,
    on_progress: PassProgress = lambda *_: None,
) -> Diff:
    """
    Measure SAEs of several kinds and seeds, and describe the latents of the most stable one of a kind.

    Args:
        saes: Of each kind, the SAEs of its seeds, for inference.
        train_x: Differences of training text, for principal components.
        kind: The kind to show.
        k: Active latents of a token, as trained: kinds are compared at this L0.
        data: Name of the text, recorded as is ``training``.
        halves: SAEs of that kind trained on disjoint halves of the text.
        n_latents: The KL of as many latents is measured, those of the largest estimate.
        tokens_of_latents: It is measured on the first contexts, with as many tokens or a few more.
        seed: Seed of the intervals.
    """
    stabilities = {name: stability_of(of) for name, of in saes.items()}
    stability = stabilities[kind]
    shown = stability.best_seed
    sae = saes[kind][shown]
    n_latents = min(n_latents, sae.cfg.d_sae)
    sample = held_out.rows(slice(-(-tokens_of_latents // held_out.tokens.shape[1])))
    at_k = {name: level(of, held_out, k) for name, of in saes.items()}
    # the passes cost more than the training: one seed of each kind
    patches = {name: reconstruction(of[stabilities[name].best_seed]) for name, of in at_k.items()}
    components = component_patches(train_x, k, sae.cfg.d_sae)
    patches |= {f"PCA {n}": patch for n, patch in components.items()}
    parts, sampled = (len(list(each.passes())) for each in (held_out, sample))
    # besides the patches: without one, with the difference, with its mean, and for the estimates
    done, total_passes = count(1), parts * (len(patches) + 4) + sampled * n_latents

    def on_pass() -> None:
        on_progress(next(done), total_passes)

    found = divergences(pair, held_out, patches, on_pass=on_pass)
    by_patch = found.by_patch
    shares = recovered(by_patch, BASE, held_out, seed=seed)
    total = by_patch[BASE].sum()
    fits = {name: fit_record(of, at_k[name], held_out, shares[name], seed=seed) for name, of in saes.items()}
    estimates = estimated_rises(pair, held_out, sae, on_pass=on_pass) / total
    first = np.argsort(-np.abs(estimates.sum(0)), kind="stable").tolist()
    rises = measured_rises(pair, sample, sae, first[:n_latents], on_pass=on_pass)
    of_base = by_patch[BASE][: len(sample.tokens)]
    above, below = (np.stack([each.ravel() for each in every], 1) for every in (rises.values(), [of_base] * len(rises)))
    kl_shares = ratio_estimates(above, below, groups=sample.documents_of_predictions, seed=seed)
    kl = dict(zip(rises, kl_shares, strict=True))
    codes = codes_of_tokens(sae, held_out)
    n_tokens = int(held_out.kept.sum())
    in_seeds = stability.found[shown].tolist()
    in_halves = share_found(sae.W_dec, [half.W_dec for half in halves], signed=is_signed(sae)).tolist()
    cosine = cosine_similarity(sae.W_dec.detach().cpu().float(), held_out.mean[None]).tolist()

    def pole(latent: int, side: int) -> DiffPoleRecord:
        values = side * codes[:, [latent]].data
        values = values[values > 0]
        return DiffPoleRecord(
            share_active=len(values) / n_tokens,
            scale=float(np.quantile(values, SCALE_QUANTILE)) if len(values) else 0.0,
            kl_share=kl.get((latent, side)),
            kl_estimate=float(estimates[0 if side > 0 else 1, latent]),
        )

    latents = [
        DiffLatentRecord(
            latent=latent,
            kl_share=kl.get((latent, 0)),
            kl_estimate=float(estimates[:, latent].sum()),
            positive=pole(latent, 1),
            negative=pole(latent, -1),
            share_active=codes[:, [latent]].nnz / n_tokens,
            stability=_number(in_seeds[latent]),
            stability_halves=_number(in_halves[latent]),
            mean_cosine=cosine[latent],
        )
        for latent in first
    ]
    latents.sort(key=_rank)
    spec = pair.spec
    results = DiffResults(
        **origin_facts(spec.device),
        base=spec.model_name,
        tuned=spec.tuned,
        hook=spec.hook_name,
        data=data,
        unit=held_out.unit,
        n_units=len(held_out.documents.unique()),
        n_tokens=n_tokens,
        n_predictions=by_patch[BASE].size,
        n_predictions_latents=of_base.size,
        seed=seed,
        kind=kind,
        shown_seed=shown,
        d_sae=sae.cfg.d_sae,
        k=k,
        training=dict(training),
        precision=pair.precision,
        fvu=fits[kind].fvu,
        mean_energy=mean_energy(held_out, seed=seed),
        kl=mean_estimate(by_patch[BASE].ravel(), groups=held_out.documents_of_predictions, seed=seed),
        kl_recovered=shares[kind],
        kl_ceiling=shares[CEILING],
        kl_mean_difference=shares[MEAN],
        fits=fits,
        pca=component_records(components, held_out, {n: shares[f"PCA {n}"] for n in components}),
        latents=latents,
    )
    contexts = token_contexts(held_out, codes, found, [each.latent for each in latents], pair.tokenizer)
    return Diff(results, contexts)


def _rank(latent: DiffLatentRecord) -> tuple[bool, float]:
    """Sort measured latents first, each part by falling KL share."""
    share = latent.kl_share
    return share is None, -((share.value or 0) if share else latent.kl_estimate)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
