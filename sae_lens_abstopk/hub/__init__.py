"""Publish SAEs to the Hugging Face Hub, and download them with checked hashes."""

from sae_lens_abstopk.hub.publish import Published, publish
from sae_lens_abstopk.hub.pull import Pulled, pull

__all__ = ["Published", "Pulled", "publish", "pull"]
