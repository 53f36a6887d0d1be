"""The run on tokens, with a tiny model of the user's own."""

from io import StringIO
from pathlib import Path

import pytest

from sae_lens_abstopk.evaluation.inspection.inspect_saes import inspect_saes
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.terminal import PrintableConsole
from sae_lens_abstopk.workflows import tokens as tokens_module
from sae_lens_abstopk.workflows.tokens import tokens
from tests.conftest import small_run

pytestmark = pytest.mark.slow


def test_a_folder_that_is_taken_is_told_before_the_model_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens_module, "quickstart_model", lambda _: pytest.fail("fetched"))
    (tmp_path / "sae_weights.safetensors").touch()
    with pytest.raises(ConfigError, match="already holds a run"):
        tokens(out=tmp_path)


@pytest.mark.parametrize(
    ("architecture", "needs_import"), [("batch_abstopk", True), ("sparse_batchtopk", False)], ids=["signed", "stock"]
)
def test_the_run_goes_to_the_folder_that_was_named_and_its_lines_load_it(
    architecture: str,
    needs_import: bool,
    tiny_llama: Path,
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = StringIO()
    overrides = [*small_run(tiny_llama, texts), "sae.k=8", f"sae.architecture={architecture}", "output_path=mine"]
    devices = []
    monkeypatch.setattr(
        tokens_module,
        "inspect_saes",
        lambda saes, **options: devices.append(options["device"]) or inspect_saes(saes, **options),
    )
    result = tokens(overrides, console=PrintableConsole(file=printed, width=200, markup=False))
    assert devices == ["cpu"], "it is measured where it was trained"
    assert result.folders["sae"] == Path("mine")
    assert not Path("runs").exists()
    run, _, load = printed.getvalue().partition("Load the result:")
    assert "run folder mine" in run
    assert ("import sae_lens_abstopk  # registers the architecture signed_jumprelu" in load) == needs_import
    scope: dict[str, object] = {}
    exec(load, scope)
    assert type(scope["sae"]).__name__ == ("SignedJumpReLUSAE" if needs_import else "JumpReLUSAE")
