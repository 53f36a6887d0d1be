"""Convert signed SAEs of other projects to SAELens."""

from sae_lens_abstopk.saes.converters.formats import convert

__all__ = ["convert"]
