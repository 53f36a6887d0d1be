"""``python -m sae_lens_abstopk`` is the command ``abstopk``."""

from sae_lens_abstopk.cli import app

app()
