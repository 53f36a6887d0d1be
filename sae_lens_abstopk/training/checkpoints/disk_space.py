"""The disk space that a run needs, checked before it starts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sae_lens import TrainingSAE

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import lack_of_space
from sae_lens_abstopk.system.ranks import n_ranks
from sae_lens_abstopk.training.checkpoints.checkpoint import checkpoints
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.run_folder import checkpoint_root


def checkpoint_bytes(cfg: TrainingConfig, saes: Mapping[str, TrainingSAE[Any]]) -> int:
    """Bound a checkpoint's size: three times the weights, the firing counts and the mixing buffer."""
    of_saes = 0
    for sae in saes.values():
        tensors = [*sae.parameters(), *sae.parameters(), *sae.state_dict().values()]
        of_saes += sum(tensor.nbytes for tensor in tensors) + 2 * 4 * sae.cfg.d_sae
    positions = len(range(cfg.context_size)[slice(*cfg.seqpos_slice)])
    # the buffer, and the largest block that it may hold in addition
    rows = (cfg.n_batches_in_buffer + cfg.store_batch_size_prompts) * positions * n_ranks()
    return 2**20 + of_saes + 4 * rows * saes["sae"].cfg.d_in


def require_room(cfg: TrainingConfig, saes: Mapping[str, TrainingSAE[Any]]) -> None:
    """Raise ConfigError if the final SAEs and the checkpoints that exist at one time do not fit on the disk."""
    root, output = checkpoint_root(cfg), Path(cfg.output_path or "")
    needed = {output: sum(weight.nbytes for sae in saes.values() for weight in sae.state_dict().values())}
    remedy = "free some space, or name another output_path"
    if cfg.checkpoint_freq or cfg.save_final_checkpoint:
        on_the_way = (cfg.total_training_steps - 1) // cfg.checkpoint_freq if cfg.checkpoint_freq else 0
        n_saved = max(1, on_the_way + cfg.save_final_checkpoint)
        # the oldest is deleted after a new one is whole
        n = max(0, min(cfg.checkpoints_kept + 1, n_saved) - len(checkpoints(root)))
        disk = output if cfg.checkpoint_path is None else root
        needed[disk] = needed.get(disk, 0) + n * checkpoint_bytes(cfg, saes)
        remedy = (
            f"free some space, lower checkpoints_kept={cfg.checkpoints_kept}, or save no checkpoints "
            "(checkpoint_freq=0, save_final_checkpoint=false)"
        )
    for folder, n_bytes in needed.items():
        if lack := lack_of_space(folder, n_bytes, "what the run saves"):
            raise ConfigError(f"{lack}; {remedy}.")
