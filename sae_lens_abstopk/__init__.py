"""Bidirectional (signed) sparse autoencoders for SAELens. Importing it registers the architectures."""

from sae_lens_abstopk.antipodal_merge import merge_antipodal
from sae_lens_abstopk.config.config_file import load_config
from sae_lens_abstopk.config.training_config import TrainingConfig
from sae_lens_abstopk.errors import ConfigError, HubError, TrainingStopped
from sae_lens_abstopk.evaluation.compare import compare
from sae_lens_abstopk.evaluation.evaluate import evaluate
from sae_lens_abstopk.evaluation.probing.difference_in_means import DifferenceInMeans, DifferenceInMeansFitter
from sae_lens_abstopk.evaluation.steering.steer import steer
from sae_lens_abstopk.evaluation.tasks.task import load_task
from sae_lens_abstopk.explorer.exploration import explore
from sae_lens_abstopk.hub import publish, pull
from sae_lens_abstopk.provenance import version_of
from sae_lens_abstopk.saes import (
    AbsTopKTrainingSAE,
    AbsTopKTrainingSAEConfig,
    BatchAbsTopKTrainingSAE,
    BatchAbsTopKTrainingSAEConfig,
    MatryoshkaBatchAbsTopKTrainingSAE,
    MatryoshkaBatchAbsTopKTrainingSAEConfig,
    SignedJumpReLUSAE,
    SignedJumpReLUSAEConfig,
    SparseBatchTopKTrainingSAEConfig,
    SparseTopKTrainingSAEConfig,
)
from sae_lens_abstopk.saes.gauge import canonical_gauge
from sae_lens_abstopk.saes.mirror import mirror, unmirror
from sae_lens_abstopk.saes.topk_codes import decode_topk, encode_topk
from sae_lens_abstopk.training.train import train

__all__ = [
    "AbsTopKTrainingSAE",
    "AbsTopKTrainingSAEConfig",
    "BatchAbsTopKTrainingSAE",
    "BatchAbsTopKTrainingSAEConfig",
    "ConfigError",
    "DifferenceInMeans",
    "DifferenceInMeansFitter",
    "HubError",
    "MatryoshkaBatchAbsTopKTrainingSAE",
    "MatryoshkaBatchAbsTopKTrainingSAEConfig",
    "SignedJumpReLUSAE",
    "SignedJumpReLUSAEConfig",
    "SparseBatchTopKTrainingSAEConfig",
    "SparseTopKTrainingSAEConfig",
    "TrainingConfig",
    "TrainingStopped",
    "canonical_gauge",
    "compare",
    "decode_topk",
    "encode_topk",
    "evaluate",
    "explore",
    "load_config",
    "load_task",
    "merge_antipodal",
    "mirror",
    "publish",
    "pull",
    "steer",
    "train",
    "unmirror",
]

__version__ = version_of("sae-lens-abstopk")
