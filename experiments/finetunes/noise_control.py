"""
Repeat a run of `abstopk diff` with noise of the same norm in place of what the fine-tune changed.

    python -m experiments.finetunes.noise_control FOLDER --out experiments/finetunes/results/noise_control.json

FOLDER is what `abstopk diff` wrote. Writes FOLDER/noise with the records of a comparison, and how stable latents
are in both: of noise, nothing should be found in another seed.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from rich.console import Console
from typing_extensions import override

from experiments.recording import command, environment, write_record
from sae_lens_abstopk.diffs.comparing import TOKENS, TRAINING_TOKENS, read_text
from sae_lens_abstopk.diffs.diff_files import Diff
from sae_lens_abstopk.diffs.diff_results import DiffResults
from sae_lens_abstopk.diffs.fitting import RUN, fit_difference
from sae_lens_abstopk.diffs.held_out import HeldOut
from sae_lens_abstopk.diffs.measuring import measure
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.system.files import without_path
from sae_lens_abstopk.training.checkpoints.resume import is_finished, resume_if_started
from sae_lens_abstopk.training.config.config_file import load_config
from sae_lens_abstopk.training.config.seeds_and_baselines import SIGNED
from sae_lens_abstopk.training.runner import DifferenceRun
from sae_lens_abstopk.training.source.difference_source import DifferenceSource
from sae_lens_abstopk.training.source.language_model_source import RawBatch


def noise_like(x: Float[torch.Tensor, "n d_in"], *, seed: int) -> Float[torch.Tensor, "n d_in"]:
    """Return isotropic noise, each row of which has the norm of that row of ``x``."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x)
    return noise * (x.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True))


def with_noise(pair: ModelPair, held_out: HeldOut, *, seed: int) -> tuple[ModelPair, HeldOut]:
    """Return the base model beside itself, and the contexts with noise in place of the differences of kept tokens."""
    equal = ModelPair(pair.spec, pair.d_in, pair.base_model, pair.base_model)
    return equal, replace(held_out, tuned=held_out.moved(noise_like(held_out.x, seed=seed)))


class NoiseSource(DifferenceSource):
    """The source of a comparison, with noise in place of each difference."""

    n_raw: int = 0

    @override
    def raw_batch(self, raise_on_epoch_end: bool = False) -> RawBatch:
        batch = super().raw_batch(raise_on_epoch_end)
        self.n_raw += 1
        return batch._replace(activations=noise_like(batch.activations, seed=self.n_raw))


class NoiseRun(DifferenceRun):
    @override
    def _open_source(self) -> NoiseSource:
        pair = self.pair = ModelPair.load(self.cfg.pair_spec, self.cfg.text_spec, d_in=self.cfg.sae.d_in)
        return self._open_store(pair.base_model, NoiseSource, pair=pair)


def control(folder: Path, *, n_tokens: int, console: Console) -> Diff:
    """Train on noise and measure it on noise."""
    out = folder / "noise"
    cfg = load_config(folder / RUN / "config.yaml", {"output_path": str(out / RUN), "perf_log_freq": 0})
    if not is_finished(cfg):
        resume_if_started(cfg)
        with torch.inference_mode(False):
            NoiseRun(cfg, console=console).run()
    fitted = fit_difference(cfg, console=console)
    pair, held_out = with_noise(fitted.pair, read_text(fitted, n_tokens, part="held_out"), seed=cfg.seed)
    of_train = with_noise(fitted.pair, read_text(fitted, TRAINING_TOKENS, part="train"), seed=cfg.seed)[1]
    options: dict[str, Any] = {
        "train_x": of_train.x,
        "data": without_path(cfg.dataset_path),
        "training": {},
        "seed": cfg.seed,
    }
    found = measure(pair, fitted.saes, held_out, kind=SIGNED, k=cfg.sae.k, n_latents=1, **options)
    found.write(out)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--measure-tokens", type=int, default=TOKENS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    machine = environment()
    noise = control(given.folder, n_tokens=given.measure_tokens, console=Console())
    of_models = Diff.read(given.folder).results
    write_record(
        {
            "command": command(),
            "environment": machine,
            "seed": of_models.seed,
            "models": [without_path(of_models.base), without_path(of_models.tuned)],
            "training": of_models.training | {"d_sae": of_models.d_sae, "k": of_models.k},
            "fine_tune": _facts(of_models),
            "noise": _facts(noise.results),
        },
        given.out,
    )


def _facts(results: DiffResults) -> dict[str, Any]:
    """Return how many latents other seeds have too, and the fit."""
    fit = results.fits[results.kind]
    stable = [latent.stability for latent in results.latents if latent.share_active > 0]
    return {
        "n_tokens": results.n_tokens,
        "stability": fit.stability,
        "live_latents": len(stable),
        "found_in_any_other_seed": sum((each or 0) > 0 for each in stable),
        "fvu": fit.fvu.model_dump(),
        "kl_recovered": fit.kl_recovered.model_dump(),
    }


if __name__ == "__main__":
    main()
