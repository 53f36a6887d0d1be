"""Scores of many latents at once."""

import numpy as np

from sae_lens_abstopk.evaluation.probing.latent_scores import LatentScores, _score_firing, score_latents


def test_leaving_out_latents_that_never_fire_changes_no_bit() -> None:
    generator = np.random.default_rng(0)
    labellings = [generator.permutation(np.arange(300) % 2) for _ in range(2)]
    for firing in (0, 1, 2, 5, 40):
        codes = np.where(generator.random((300, 40)) < 0.5, np.float32(0), np.float32(-0.0))
        chosen = generator.choice(40, firing, replace=False)
        fires = generator.random((300, firing)) < 0.3
        codes[:, chosen] = np.where(fires, generator.normal(size=(300, firing)), 0)
        expected = [LatentScores(*scores) for scores in _score_firing(codes, labellings)]
        for found, whole in zip(score_latents([codes], labellings), expected, strict=True):
            for name, values in vars(whole).items():
                np.testing.assert_array_equal(getattr(found, name), values)
