"""The ``abstopk`` command. It imports torch and SAELens only when a command runs: help and usage errors are fast."""

from sae_lens_abstopk.cli import evaluation, explore, interop, sharing, training  # each adds its subcommands
from sae_lens_abstopk.cli.app import app

__all__ = ["app", "evaluation", "explore", "interop", "sharing", "training"]
