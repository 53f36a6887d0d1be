"""A run on tokens of a small model: train a signed and a BatchTopK SAE in one pass, and inspect both."""

import time
from collections.abc import Sequence
from pathlib import Path

from sae_lens_abstopk.evaluation.inspection.inspect_saes import inspect_saes, print_inspection
from sae_lens_abstopk.evaluation.suite.results_folder import RESULTS_FILENAME
from sae_lens_abstopk.model.quickstart_model import WIDTH, quickstart_model
from sae_lens_abstopk.saes.load_note import needed_import
from sae_lens_abstopk.system.files import free_folder
from sae_lens_abstopk.system.terminal import PrintableConsole, passes_bar
from sae_lens_abstopk.training.checkpoints.resume import refuse_to_overwrite
from sae_lens_abstopk.training.config.config_file import load_config
from sae_lens_abstopk.training.distributed import require_one_process
from sae_lens_abstopk.training.train import TrainingResult, train

# held-out tokens, and training tokens to set thresholds on: enough for the second digit of the FVU, a third of the time
# of `abstopk inspect`
MEASURED = 16_384


def tokens(
    overrides: Sequence[str] = (), *, out: Path | None = None, console: PrintableConsole | None = None
) -> TrainingResult:
    """
    Train and show the SAEs of the preset ``quickstart``, changed by ``overrides``; ``model_name=`` replaces the model.

    The run folder is ``out``, ``output_path=`` of ``overrides``, or the first free one of ``runs/tokens``,
    ``runs/tokens-2``, ...
    """
    require_one_process("abstopk tokens")
    console = console or PrintableConsole(markup=False)  # a folder may have brackets in its name
    progress = console.progress
    started = time.perf_counter()
    overrides = [f"threshold_tokens={MEASURED}", *overrides]
    if not any(override.startswith(("model_name=", "model=")) for override in overrides):
        cfg = load_config("quickstart", [f"sae.d_in={WIDTH}", *overrides])
        cfg.output_path = str(out or cfg.output_path or "") or None
        if cfg.output_path is not None:
            refuse_to_overwrite(cfg)  # check before the model is fetched
        model = quickstart_model(lambda sentence: progress.print(sentence, style="dim"))
        overrides.append(f"model_name={model}")
        progress.print("model: SmolLM2-135M-Instruct, Q4_1 dequantised")
    cfg = load_config("quickstart", overrides)
    cfg.output_path = str(out or cfg.output_path or free_folder(Path("runs/tokens")))
    progress.print(
        f"training {', '.join([cfg.sae.architecture(), *cfg.companions])} on {cfg.training_tokens:,} tokens of "
        f"{cfg.hook_name}, d_sae {cfg.sae.d_sae:,}; run folder {cfg.output_path}"
    )
    result = train(cfg, console=progress)
    with passes_bar(progress, "measuring on held-out text") as on_progress:
        folders = list(result.folders.values())
        inspection = inspect_saes(folders, n_tokens=MEASURED, device=cfg.device, on_progress=on_progress)
    inspection.results.write(result.folders["sae"] / RESULTS_FILENAME)
    print_inspection(inspection, console)
    folder = result.folders["sae"].as_posix()
    console.print(
        f"\n{time.perf_counter() - started:.0f} s. Both sides of every latent: abstopk explore {folder}. "
        "Load the result:\n",
        soft_wrap=True,
    )
    saved_as = cfg.sae.get_inference_config_class().architecture()
    if module := needed_import(saved_as):
        console.print(f"import {module}  # registers the architecture {saved_as}", soft_wrap=True)
    console.print(f"from sae_lens import SAE\nsae = SAE.load_from_disk({folder!r})", soft_wrap=True)
    return result
