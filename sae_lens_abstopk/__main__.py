"""``python -m sae_lens_abstopk`` is the command ``abstopk``."""

from abstopk_cli import app

app()
