"""Untrusted weights, code, configs, paths and texts do no harm, and keys reach no file."""

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from sae_lens import TopKSAE, TopKSAEConfig
from sae_lens.saes.sae import SAEMetadata

from sae_lens_abstopk import ConfigError, load_config, load_task
from sae_lens_abstopk.evaluation.subjects.sae_specs import specs_of_sae
from sae_lens_abstopk.evaluation.subjects.subjects import open_subjects
from sae_lens_abstopk.evaluation.suite.suite import load_suite
from sae_lens_abstopk.hub.manifest import Manifest, PublishedFile, PublishedSAE
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.system.files import inside
from sae_lens_abstopk.training.checkpoints.checkpoint import damage
from sae_lens_abstopk.training.config.config_file import build_config
from sae_lens_abstopk.training.runner import TrainingRun
from sae_lens_abstopk.training.source.activation_cache import MANIFEST, ActivationCache
from sae_lens_abstopk.training.sweeps.comparison import load_comparison
from sae_lens_abstopk.training.sweeps.sweep import load_sweep
from tests.specs import check_hook, model_of
from tests.training.runs import QUIET


class Runs:
    """A pickle that makes a file if its code runs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.touch, (self.path,))


@pytest.fixture
def stopped(raw_config: dict[str, Any]) -> dict[str, Any]:
    """A config that resumes from the checkpoint after step 4 of a run."""
    raw = raw_config | {"checkpoint_freq": 4, "perf_log_freq": 0}
    TrainingRun(build_config(raw), console=QUIET).run()
    (Path(raw["output_path"]) / "sae_weights.safetensors").unlink()
    return raw | {"resume_from_checkpoint": "newest"}


def checkpoint_of(raw: dict[str, Any]) -> Path:
    return Path(raw["output_path"]) / "checkpoints" / "256"


def signed_off(checkpoint: Path, name: str) -> None:
    """Enter a changed file in the manifest, as an attacker would."""
    manifest = json.loads((checkpoint / "checkpoint.json").read_text())
    content = (checkpoint / name).read_bytes()
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (checkpoint / "checkpoint.json").write_text(json.dumps(manifest))


def test_a_pickle_in_place_of_weights_or_the_state_of_an_optimiser_does_not_run(
    stopped: dict[str, Any], tmp_path: Path
) -> None:
    checkpoint, ran = checkpoint_of(stopped), tmp_path / "ran"
    assert {path.suffix for path in checkpoint.iterdir()} == {".safetensors", ".json", ".csv", ".yaml", ".pt"}
    loads = tmp_path / "loads"
    shutil.copytree(checkpoint, loads)
    torch.save(Runs(ran), loads / "sae_weights.safetensors")
    with pytest.raises(ConfigError, match="could not be loaded as an SAE"):
        load_sae(loads)
    (loads / "sae_weights.safetensors").rename(loads / "sae_weights.pt")
    with pytest.raises(ConfigError):
        load_sae(loads)
    torch.save({"optimizer": Runs(ran)}, checkpoint / "trainer_state.pt")
    signed_off(checkpoint, "trainer_state.pt")
    with pytest.raises(ConfigError, match=r"trainer_state\.pt"):
        TrainingRun(build_config(stopped), console=QUIET).run()
    assert not ran.exists()


@pytest.fixture
def with_code(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A model with code of its own, and the file that the code makes."""
    model, ran = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(tiny_llama, model)
    config = json.loads((model / "config.json").read_text())
    code = {"AutoConfig": "canary.Canary", "AutoModelForCausalLM": "canary.M"}
    config |= {"model_type": "unheard-of", "auto_map": code}
    (model / "config.json").write_text(json.dumps(config))
    (model / "canary.py").write_text(
        f"import pathlib\nfrom transformers import LlamaConfig, LlamaForCausalLM\npathlib.Path({str(ran)!r}).touch()\n"
        "class Canary(LlamaConfig):\n    model_type = 'unheard-of'\n"
        "class M(LlamaForCausalLM):\n    config_class = Canary\n"
    )
    monkeypatch.setattr("sys.stdin", io.StringIO())  # nobody to ask
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    return model, ran


def test_code_that_comes_with_a_model_is_run_only_where_that_is_asked_for(
    raw_config: dict[str, Any], with_code: tuple[Path, Path]
) -> None:
    model, ran = with_code
    with pytest.raises(ConfigError, match="trust_remote_code: true"):
        TrainingRun(build_config(raw_config | {"model_name": str(model)}), console=QUIET)
    assert not ran.exists()
    assert "trust_remote_code" not in build_config(raw_config).model_from_pretrained_kwargs
    trusted = {"model_name": str(model), "model_from_pretrained_kwargs": {"trust_remote_code": True}}
    del raw_config["sae"]["d_in"]
    check_hook(build_config(raw_config | trusted))
    assert ran.exists()
    (model / "words.py").write_text(
        "from transformers import PreTrainedTokenizerFast\nclass Words(PreTrainedTokenizerFast):\n    pass\n"
    )
    read = json.loads((model / "tokenizer_config.json").read_text())
    read |= {"tokenizer_class": "Words", "auto_map": {"AutoTokenizer": [None, "words.Words"]}}
    (model / "tokenizer_config.json").write_text(json.dumps(read))
    loaded = model_of(build_config(raw_config | trusted))
    assert loaded.hook_dict
    assert type(loaded.tokenizer).__name__ == "Words", "that of the tokenizer too"
    with pytest.raises(ConfigError, match=r"dataset_trust_remote_code=True .*leave it out"):
        build_config(raw_config | trusted | {"dataset_trust_remote_code": True})


@pytest.mark.filterwarnings(r"ignore:\s*This SAE has non-empty model_from_pretrained_kwargs")  # SAELens's own
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"trust_remote_code": True, "code_revision": "x"}, "trust_remote_code, code_revision"),
        ({"attn_implementation": "someone/kernel"}, "attn_implementation"),
        (["trust_remote_code"], "Mapping"),
    ],
)
def test_an_sae_does_not_decide_that_code_is_run(
    options: Any, sentence: str, with_code: tuple[Path, Path], texts: Path, tmp_path: Path
) -> None:
    model, ran = with_code
    sae = TopKSAE(TopKSAEConfig(d_in=32, d_sae=64, k=4))
    names = {"model_name": str(model), "hook_name": "model.layers.2"}
    sae.cfg.metadata = SAEMetadata(**names, model_from_pretrained_kwargs=options)
    sae.save_model(tmp_path / "sae")
    with pytest.raises(ConfigError, match=sentence):
        open_subjects(tmp_path / "sae", text=str(texts))
    harmless, harmful = (
        {"revision": "main", "fold_ln": False},
        {"proxies": {"https": "evil"}, "cache_dir": "/", "token": None},
    )
    sae.cfg.metadata.model_from_pretrained_kwargs = harmless | harmful
    with pytest.warns(UserWarning, match="'cache_dir', 'proxies'.* ignored"):
        specs = specs_of_sae(tmp_path / "sae", sae, text=str(texts))
    assert specs.model.model_from_pretrained_kwargs == harmless
    assert not ran.exists()


@pytest.mark.parametrize("load", [load_config, load_task, load_suite, load_sweep, load_comparison])
def test_a_yaml_tag_that_makes_objects_is_refused(load: Callable[..., Any], tmp_path: Path) -> None:
    ran, file = tmp_path / "ran", tmp_path / "file.yaml"
    more = {"out": tmp_path} if load is load_comparison else {}
    for tag in (f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{ran}']]", "!x {}"):
        file.write_text(f"lr: {tag}\n")
        with pytest.raises(ConfigError, match="tag"):
            load(str(file), **more)
    assert not ran.exists()


@pytest.mark.parametrize("override", ["lr=!!python/object/apply:os.system ['true']", "sae.k=!!python/name:os.system"])
def test_a_tag_on_the_command_line_is_text(override: str, raw_config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(raw_config))
    with pytest.raises(ConfigError, match=override.partition("=")[0]):
        load_config(tmp_path / "c.yaml", [override])


OUTSIDE = ["../secret.csv", "/etc/hostname", "a/../../secret.csv", "..", r"..\secret.csv", r"C:\secret.csv", ""]


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_name_leads_out_of_a_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leads out of"):
        inside(tmp_path / "folder", name, where="here")
    assert inside(tmp_path / "folder", "a/b..c.csv", where="here") == tmp_path / "folder" / "a" / "b..c.csv"


@pytest.fixture
def link(tmp_path: Path) -> Path:
    """A folder with a link out of it."""
    (tmp_path / "secret.csv").write_text("body,mood\nx,0\ny,1\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link.csv").symlink_to(tmp_path / "secret.csv")
    return tmp_path / "folder"


def task_of(folder: Path, source: dict[str, str], **more: Any) -> str:
    """A task file that reads ``source``."""
    rows = {"text": "{body}", "label": "mood", "labels": {0: "a", 1: "b"}, "from": [source]}
    task = {"name": "t", "poles": ["a", "b"], "licence": "x", "source": "y", "rows": rows}
    (folder / "t.yaml").write_text(yaml.safe_dump(task | more))
    return str(folder / "t.yaml")


@pytest.mark.parametrize("name", [*OUTSIDE[:3], "link.csv"])
def test_a_task_file_reads_only_what_lies_beside_it(name: str, link: Path) -> None:
    for source, local in (
        ({"file": name}, {}),
        ({"hub": "some/where"}, {"local": {"path": name}}),
        ({"hub": "some/where", "split": name.removesuffix(".csv")}, {"local": {"path": "."}}),
    ):
        with pytest.raises(ConfigError, match="leads out of"):
            load_task(task_of(link, source, **local))


@pytest.mark.parametrize("name", [*OUTSIDE, "link.csv"])
def test_a_data_set_of_the_hub_is_not_a_local_file(name: str, link: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(link)
    with pytest.raises(ConfigError, match=r"Repo id must|current folder"):
        load_task(task_of(link, {"hub": name or "/"}))


@pytest.mark.parametrize("name", ["../x", "/x", "..", "a/b", "x\n", ".x"])
def test_a_companion_is_a_folder_of_the_run(name: str, raw_config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="folder"):
        build_config(raw_config | {"companions": {name: {"architecture": "topk"}}})


def test_the_runs_of_a_sweep_are_folders_of_its_output(raw_config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(raw_config))
    grid = {"model_name": ["../../../out", "/out", "a/b"]}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({"runs": [{"config": str(tmp_path / "c.yaml"), "grid": grid}]}))
    for run in load_sweep(str(tmp_path / "s.yaml")):
        assert (tmp_path / "runs" / run.name).resolve().parent == tmp_path / "runs"


def test_a_manifest_of_a_release_names_only_files_of_its_saes() -> None:
    def text(sae_id: str, path: str) -> str:
        files = {path: PublishedFile("0" * 64, 1)}
        sae = PublishedSAE("abstopk", 1, 1, "float32", "as trained", None, {}, None, files)
        return Manifest(saes={sae_id: sae}).to_json()

    assert Manifest.from_json(text("a/b", "a/b/cfg.json"), "it").saes
    outside = [("a", "../cfg.json"), ("a", "/cfg.json"), ("a", "a/../../x"), ("../a", "../a/x"), ("a", "b/x")]
    # a config beside an SAE decides which model runs, and may let it bring code
    for sae_id, path in (*outside, ("c", "config.yaml"), ("a", "a/config.yaml"), ("a", "a/b/cfg.json")):
        with pytest.raises(ConfigError, match=r"not in the folder|cfg\.json"):
            Manifest.from_json(text(sae_id, path), "it")


def test_a_manifest_of_a_checkpoint_vouches_for_no_file_elsewhere(stopped: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = checkpoint_of(stopped)
    assert damage(checkpoint) is None
    (checkpoint.parent / "secret.csv").write_text("x")
    manifest = (checkpoint / "checkpoint.json").read_text()
    signed_off(checkpoint, "../secret.csv")
    assert "../secret.csv" in str(damage(checkpoint))
    (checkpoint / "checkpoint.json").write_text(manifest)
    (checkpoint / "metrics.csv").rename(tmp_path / "metrics.csv")
    (checkpoint / "metrics.csv").symlink_to(tmp_path / "metrics.csv")
    assert "metrics.csv is a link" in str(damage(checkpoint))


@pytest.mark.parametrize("name", ["../shard", "link.csv"])
def test_a_manifest_of_an_activation_cache_names_only_files_in_it(name: str, link: Path) -> None:
    (link.parent / "shard").write_bytes(b"x")
    shard = {"file": name, "rows": [1], "sha256": hashlib.sha256((link / name).read_bytes()).hexdigest()}
    manifest = {"defined_by": {}, "max_norm": None, "skipped_batches": 0, "shards": [shard]}
    (link / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match="leads out of"):
        next(ActivationCache(link, {}).blocks(lambda _: iter(())))
