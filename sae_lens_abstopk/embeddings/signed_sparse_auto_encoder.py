"""An SAE as the last module of a sentence-transformers model: texts become signed sparse codes."""

from pathlib import Path
from typing import Any, Self

from sae_lens import SAE
from torch import Tensor, nn
from typing_extensions import override

from sae_lens_abstopk.equivalents.mirror import mirror
from sae_lens_abstopk.saes.load_note import write_load_note
from sae_lens_abstopk.saes.loading import Source, load_sae, origin_of
from sae_lens_abstopk.system.errors import require_same_width


# neither the class nor this module can be renamed: the modules.json of saved models names both
class SignedSparseAutoEncoder(nn.Module):
    """
    Replace a sentence embedding [B, d_in] by its code [B, d_sae]; a module for ``SparseEncoder``, for inference.

    ::

        embedder = SentenceTransformer("sentence-transformers/all-MiniLM-L6-v2")
        model = SparseEncoder(modules=[*embedder, SignedSparseAutoEncoder.from_sae("RUN")])
        codes = model.encode(texts)  # a sparse tensor
        model.save_pretrained("FOLDER")
        model = SparseEncoder("FOLDER", trust_remote_code=True)  # sentence-transformers imports this package

    The flag is needed from sentence-transformers 6 on, because the class is not one of its own. The module's folder is
    an SAE's folder.

    Negative values are handled right by ``similarity`` (dot product, cosine, Euclidean and Manhattan distance), by
    ``SparseInformationRetrievalEvaluator`` and by ``max_active_dims``, which keeps the largest magnitudes with their
    signs. ``sparsity`` and the evaluator's FLOPS count non-zero values of either sign. ``intersection`` keeps the
    latents on which two codes have the same sign. ``SparseEncoder.decode`` looks latents up as tokens and has no
    meaning here, and the losses of sentence-transformers cannot train the SAE.
    """

    def __init__(self, sae: SAE[Any]) -> None:
        super().__init__()
        self.sae = sae

    @classmethod
    def from_sae(cls, sae: Source, *, mirrored: bool = False) -> Self:
        """
        Make a module of an SAE of this package or of SAELens.

        Args:
            sae: An SAE for inference, a folder, or ``RELEASE:SAE_ID`` of the Hub.
            mirrored: Take the :func:`~sae_lens_abstopk.mirror` of a signed SAE, for engines without negative weights:
                codes [relu(z), relu(-z)] of width 2 d_sae. Their dot product leaves out the latents on which the signs
                differ, which the signed codes count as negative products.

        Raises:
            ConfigError: the SAE is missing or damaged, or is to be mirrored and is not signed.
        """
        loaded = load_sae(sae)
        return cls(mirror(loaded) if mirrored else loaded)

    @override
    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """Replace ``features["sentence_embedding"]``, [B, d_in], by dense codes [B, d_sae] in float32."""
        embedding: Tensor = features["sentence_embedding"]
        width, d_in = embedding.shape[-1], self.sae.cfg.d_in
        require_same_width("an embedding of this model", width, origin_of(self.sae), d_in)
        # sparse products in sentence-transformers need float32
        features["sentence_embedding"] = self.sae.encode(embedding).float()
        return features

    def get_embedding_dimension(self) -> int:
        """Return the width of the codes."""
        return self.sae.cfg.d_sae

    get_sentence_embedding_dimension = get_embedding_dimension
    """Name in sentence-transformers 5."""

    def save(self, output_path: str, *_: Any, **__: Any) -> None:
        """Write the SAE in SAELens's format; ``SparseEncoder.save_pretrained`` calls this."""
        # with the folder's name only: an upload to the Hub saves into a temporary folder first
        write_load_note(output_path, self.sae.cfg.architecture(), folder=Path(Path(output_path).name))
        self.sae.save_model(output_path)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **options: Any) -> Self:
        """Load a saved module of a folder or a Hub repository; ``SparseEncoder`` calls this."""
        from sentence_transformers.util import load_dir_path

        hub = {key: options.get(key) for key in ("token", "cache_folder", "revision")}
        local_only = bool(options.get("local_files_only"))
        folder = load_dir_path(model_name_or_path, subfolder=subfolder, local_files_only=local_only, **hub)
        return cls.from_sae(str(folder))

    @override
    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        # half() or to() of the whole model does not call the SAE's own, which sets its dtype and device
        self.sae.to(device=self.sae.W_dec.device, dtype=self.sae.W_dec.dtype)
        return self
