"""Overrides, and values as the command line, Python and YAML have them."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from sae_lens_abstopk import ConfigError, load_config, train
from sae_lens_abstopk.system.yaml_files import yaml_text, yaml_value
from sae_lens_abstopk.training import runner
from sae_lens_abstopk.training.config.config_file import (
    apply_overrides,
    build_config,
)
from sae_lens_abstopk.training.run_folder import write_config


def test_overrides_win_over_the_file(tmp_path: Path, raw_config: dict[str, Any]) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(raw_config))
    keys = ["sae.k=7", "lr=1e-2", "sae.expansion_factor=4", "seqpos_slice=[2, null]", "training_steps=3"]
    cfg = load_config(path, keys)
    assert (cfg.sae.k, cfg.lr, cfg.sae.d_sae, cfg.seqpos_slice, cfg.training_tokens) == (7, 1e-2, 128, (2, None), 192)
    assert load_config(path, "sae.k=7").sae.k == 7


def test_overrides_may_be_a_mapping_or_what_wandb_calls_its_config(raw_config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(raw_config))
    changes = {"sae.k": np.int64(7), "lr": np.float64(1e-5), "output_path": "a: b", "exclude_special_tokens": [3]}
    listed = ["sae.k=7", "lr=0.00001", "output_path='a: b'", "exclude_special_tokens=[3]"]
    for given in (changes, SimpleNamespace(items=changes.items)):
        assert load_config(tmp_path / "c.yaml", given) == load_config(tmp_path / "c.yaml", listed)
    sections = {"sae": {"k": 7}, "logger": {"wandb_project": "mine"}}
    listed = ["sae.k=7", "logger.wandb_project=mine"]
    assert load_config(tmp_path / "c.yaml", sections) == load_config(tmp_path / "c.yaml", listed)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["training_tokens=640", "training_steps=3"], "give training_.* not both"),
        (["sae.d_sae=64", "sae.expansion_factor=4"], r"give sae\..* not both"),
        (["layer=1", "hook_name=model.layers.2"], r"layer=1 has no effect, since hook_name='model\.layers\.2'"),
        (["lr.x=3"], r"override 'lr\.x': 'lr' is a value, not a section"),
    ],
)
def test_overrides_that_contradict_each_other_or_the_file_are_refused(
    raw_config: dict[str, Any], overrides: list[str], sentence: str
) -> None:
    for given in (overrides, overrides[::-1]):
        raw = deepcopy(raw_config)
        with pytest.raises(ConfigError, match=sentence):
            build_config(apply_overrides(raw, given) or raw)


@pytest.mark.parametrize("text", ["12:30", "1:30.5", "2026-10-01", "2024-13-45"])
def test_a_value_that_yaml_would_convert_is_a_text(text: str) -> None:
    assert yaml_value(text) == text
    assert yaml_value(yaml_text(text)) == text


def test_texts_that_look_like_numbers_stay_texts(raw_config: dict[str, Any], tmp_path: Path) -> None:
    raw_config |= {"output_path": str(tmp_path / "1e5"), "model_from_pretrained_kwargs": {"revision": "123e4567"}}
    raw_config["logger"] |= {"run_name": "3e-4"}
    raw_config["companions"] = {"1e-3": {"k": 3}}
    cfg = build_config(raw_config)
    assert cfg.checked_again() == cfg
    write_config(tmp_path, cfg)
    assert load_config(tmp_path / "config.yaml") == cfg


def test_values_as_python_has_them_are_those_of_a_file(raw_config: dict[str, Any]) -> None:
    cfg: Any = build_config(raw_config)
    plain = cfg.checked_again()
    assert plain == cfg
    cfg.lr, cfg.seed, cfg.output_path = np.float64(cfg.lr), np.int64(cfg.seed), Path(cfg.output_path)
    cfg.device, cfg.sae.k = torch.device(cfg.device), np.int32(cfg.sae.k)
    cfg.model_from_pretrained_kwargs = {"dtype": torch.bfloat16}
    again = cfg.checked_again()
    plain.model_from_pretrained_kwargs = {"dtype": "bfloat16"}
    assert again == plain
    assert [type(value) for value in (again.lr, again.seed, again.output_path, again.device)] == [float, int, str, str]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda cfg: setattr(cfg.sae, "k", 65), "sae.k=65 must be at least 1 and at most 64"),
        (lambda cfg: setattr(cfg, "training_tokens", "10000"), "training_tokens='10000' has the wrong type"),
        (lambda cfg: setattr(cfg, "device", "cdua"), "device='cdua'"),
        (lambda cfg: setattr(cfg, "seed", {1}), "seed={1} has the wrong type"),
        (lambda cfg: setattr(cfg, "lr", object), "lr=<class 'object'> has the wrong type"),
    ],
)
def test_what_is_set_after_a_config_was_made_is_checked_before_the_model_is_loaded(
    raw_config: dict[str, Any], change: Callable[[Any], None], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = build_config(raw_config)
    change(cfg)
    monkeypatch.setattr(runner, "load_language_model", pytest.fail)
    with pytest.raises(ConfigError) as refused:
        train(cfg)
    assert sentence in str(refused.value)
