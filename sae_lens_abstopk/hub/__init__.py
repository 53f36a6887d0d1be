"""Publishing SAEs to the Hugging Face Hub, and getting them back with their hashes checked."""

from sae_lens_abstopk.hub.publish import Published, publish
from sae_lens_abstopk.hub.pull import Pulled, pull

__all__ = ["Published", "Pulled", "publish", "pull"]
