"""Signed SAEs on differences of paired texts: the study of `docs/pairs.md`."""
