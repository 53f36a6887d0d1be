"""The ``abstopk`` command. It imports torch and SAELens only when a command runs, so that help is fast."""

# each module adds its subcommands
from sae_lens_abstopk.cli import coding, diffs, evaluation, explore, interop, pairs, sharing, training  # noqa: F401
from sae_lens_abstopk.cli.app import app

__all__ = ["app"]
