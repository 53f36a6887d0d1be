"""Signed SAEs of other projects, as SAEs of SAELens."""

from sae_lens_abstopk.saes.converters.formats import convert

__all__ = ["convert"]
