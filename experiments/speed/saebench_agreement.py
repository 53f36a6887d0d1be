"""SAEBench's metrics of a signed SAE through its mirror, beside this package's on the same tokens.

    .venv-interop/bin/python -m experiments.speed.saebench_agreement SAE --out evals/results/saebench.json

Run it after `make test-interop`. ``core`` takes 10,240 held-out tokens, and measures them again with
``evaluate_reconstruction`` on the signed SAE, at the predictions that SAEBench scores. ``probing`` runs sparse probing
through the mirror and on the signed SAE as it is, ``tpp`` targeted probe perturbation through the mirror, both on the
texts of two tasks. ``--parts core`` measures one part and keeps the others of the record.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from sae_lens import ActivationsStore

from experiments.speed.recording import command
from sae_lens_abstopk.evaluation.results.facts import weights_sha256
from sae_lens_abstopk.evaluation.subjects.sae_specs import specs_of_sae
from sae_lens_abstopk.interop.saebench import run_saebench
from sae_lens_abstopk.model.hook_places import find_place
from sae_lens_abstopk.model.language_model import load_bridge
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.reconstruction import ReconstructionSums, evaluate_reconstruction
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.system.provenance import commit, environment

TOKENS = 10_240
TASKS = ("gender", "size")
PARTS = ("core", "probing", "tpp")


class Pair(NamedTuple):
    """One quantity, measured by both."""

    saebench: float
    ours: float


@torch.no_grad()
def core(source: Path) -> dict[str, Any]:
    """Compute SAEBench's core metrics through the mirror, and ours of the signed SAE on the same tokens."""
    batches: list[torch.Tensor] = []
    plain = ActivationsStore.get_batch_tokens

    def noted(self: ActivationsStore, *args: Any, **kwargs: Any) -> torch.Tensor:
        batches.append(plain(self, *args, **kwargs))
        return batches[-1]

    with tempfile.TemporaryDirectory() as out, patch.object(ActivationsStore, "get_batch_tokens", noted):
        started = time.perf_counter()
        (result,) = run_saebench(source, out=Path(out), evals=["core"], n_tokens=TOKENS)
        seconds = time.perf_counter() - started
    theirs = {name: value for group in result.metrics.values() for name, value in group.items()}
    for_losses, for_codes = batches[: len(batches) // 2], batches[len(batches) // 2 :]

    sae = load_sae(source)
    sae.fold_W_dec_norm()
    spec = specs_of_sae(source, sae).model
    model: Any = load_bridge(spec.model_name, spec.device, {}).eval()
    passes = ModelPasses(model, find_place(model, spec.hook_name).name)
    tokenizer = model.tokenizer
    special = tuple({tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id})
    kept = TokenFilter(special_tokens=special)
    ours = evaluate_reconstruction(passes, {"sae": sae}, for_codes, token_filter=kept, with_loss=False)["sae"]
    usual = replace(kept, max_norm=sae.cfg.metadata.max_activation_norm)
    explained: list[torch.Tensor] = []
    of_usual_norm = ReconstructionSums()
    for tokens in for_codes:
        activations = passes.activations(tokens)
        x = activations[kept.keep(tokens, activations)]
        explained.append(1 - (x - sae(x)).square().sum(-1) / (x - x.mean(0)).square().sum(-1))
        x = activations[usual.keep(tokens, activations)]
        of_usual_norm.update(x, sae(x))
    losses: dict[str, list[torch.Tensor]] = {"clean": [], "sae": [], "zero": []}
    for tokens in for_losses:
        clean, x, _ = passes.clean(tokens)
        there = kept.keep(tokens, x)
        x_hat = torch.where(there[..., None], sae(x), x)
        scored = there[:, :-1].flatten()
        for name, values in (
            ("clean", clean),
            ("sae", passes.replaced(tokens, x_hat).losses),
            ("zero", passes.replaced(tokens, torch.zeros_like(x)).losses),  # at special tokens too, as SAEBench does
        ):
            losses[name].append(values[scored])
    ce = {name: torch.cat(values).mean().item() for name, values in losses.items()}
    pairs = {
        "l0": Pair(theirs["l0"], ours.l0),
        "cosine": Pair(theirs["cossim"], ours.cosine),
        "explained_variance_legacy": Pair(theirs["explained_variance_legacy"], torch.cat(explained).mean().item()),
        "ce_clean": Pair(theirs["ce_loss_without_sae"], ce["clean"]),
        "ce_sae": Pair(theirs["ce_loss_with_sae"], ce["sae"]),
        "ce_zero": Pair(theirs["ce_loss_with_ablation"], ce["zero"]),
        "ce_loss_score": Pair(theirs["ce_loss_score"], (ce["zero"] - ce["sae"]) / (ce["zero"] - ce["clean"])),
    }
    return {
        "tokens": sum(tokens.numel() for tokens in for_codes),
        "seconds_of_saebench": seconds,
        "both": {name: pair._asdict() for name, pair in pairs.items()},
        "largest_relative_difference": max(abs(a - b) / abs(b) for a, b in pairs.values()),
        "fvu_ours": ours.fvu,
        "fvu_ours_without_massive_activations": of_usual_norm.fvu(),
        "massive_activations": ours.n_tokens - of_usual_norm.n_tokens,
        "explained_variance_saebench": theirs["explained_variance"],
        "live_poles": Pair(theirs["frac_alive"], (ours.pole_counts > 0).double().mean().item())._asdict(),
    }


def on_tasks(source: Path, evaluation: str, *, as_is: bool = False) -> dict[str, Any]:
    """Run one of SAEBench's evaluations on the texts of two tasks."""
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        (result,) = run_saebench(source, out=Path(out), evals=[evaluation], tasks=TASKS, as_is=as_is)
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "metrics": result.metrics}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sae", type=Path)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    document: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {"parts": {}}
    sae = load_sae(arguments.sae)
    document |= {
        "command": command(),
        "environment": environment() | {"sae-bench": version("sae-bench")},
        "sae": {
            "architecture": sae.cfg.architecture(),
            "d_sae": sae.cfg.d_sae,
            "weights_sha256": weights_sha256(arguments.sae),
            "model": Path(str(sae.cfg.metadata.model_name)).name,
            "hook": sae.cfg.metadata.hook_name,
        },
        "tasks": TASKS,
        "seed": 42,
    }
    for part in arguments.parts:
        found: Any
        if part == "core":
            found = core(arguments.sae)
        elif part == "probing":
            found = {
                "mirror": on_tasks(arguments.sae, "sparse_probing"),
                "as it is": on_tasks(arguments.sae, "sparse_probing", as_is=True),
            }
        else:
            found = {"mirror": on_tasks(arguments.sae, "tpp")}
        at = datetime.now(UTC).isoformat(timespec="seconds")
        document["parts"][part] = {"created": at, "commit": commit(), **found}
        arguments.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
