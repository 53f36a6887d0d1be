"""The ``abstopk`` command. It imports torch and SAELens only when a command runs, so that help is fast."""

from sae_lens_abstopk.cli import evaluation, explore, interop, sharing, training  # each module adds its subcommands
from sae_lens_abstopk.cli.app import app

__all__ = ["app", "evaluation", "explore", "interop", "sharing", "training"]
