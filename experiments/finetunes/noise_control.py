"""
Repeat a run of `abstopk diff` with noise of the same norm in place of what the fine-tune changed.

    python -m experiments.finetunes.noise_control FOLDER

FOLDER is what `abstopk diff` wrote. Writes FOLDER/noise with the files of a comparison, and prints how stable latents
are in both: of noise, nothing should be found in another seed.
"""

import argparse
from pathlib import Path

import torch
from rich.console import Console
from typing_extensions import override

from sae_lens_abstopk.diffs.comparing import TOKENS, measure_fitted, read_held_out
from sae_lens_abstopk.diffs.diff_files import Diff
from sae_lens_abstopk.diffs.fitting import RUN, FittedDifference, fit_difference
from sae_lens_abstopk.diffs.noise_control import noise_like, with_noise
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.training.checkpoints.resume import is_finished, resume_if_started
from sae_lens_abstopk.training.config.config_file import load_config
from sae_lens_abstopk.training.difference_run import DifferenceRun
from sae_lens_abstopk.training.source.difference_source import DifferenceSource
from sae_lens_abstopk.training.source.language_model_source import RawBatch


class NoiseSource(DifferenceSource):
    """The source of a comparison, with noise in place of each difference."""

    @override
    def raw_batch(self, raise_on_epoch_end: bool = False) -> RawBatch:
        batch = super().raw_batch(raise_on_epoch_end)
        return batch._replace(activations=noise_like(batch.activations, seed=self.n_llm_batches))


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
    pair, held_out = with_noise(fitted.pair, read_held_out(fitted, n_tokens), seed=cfg.seed)
    equal = FittedDifference(cfg, fitted.saes, pair)
    return measure_fitted(equal, held_out, out, console=console)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--measure-tokens", type=int, default=TOKENS)
    given = parser.parse_args()
    console = Console()
    noise = control(given.folder, n_tokens=given.measure_tokens, console=console)
    for name, found in {"fine-tune": Diff.read(given.folder), "noise": noise}.items():
        for kind, fit in found.results.fits.items():
            console.print(f"{name}, {kind}: stability {fit.stability}, FVU {fit.fvu}, KL recovered {fit.kl_recovered}")


if __name__ == "__main__":
    main()
