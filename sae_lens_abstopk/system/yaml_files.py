"""YAML files: those in the package's data folders, and the config that a training run leaves in its folder."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from sae_lens.constants import SAE_CFG_FILENAME
from typing_extensions import override

from sae_lens_abstopk.system.errors import as_config_error, require_choice
from sae_lens_abstopk.system.typed_values import plain_value

CONFIG_FILENAME = "config.yaml"
"""Name of the config in a run folder."""


def data_folder(name: str) -> Path:
    """Return ``training_configs`` or ``evals``: beside the package in a clone, inside it in an install."""
    package = Path(__file__).resolve().parents[1]
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def shipped_file(source: str | Path, folder: Path, *, what: str) -> Path:
    """Return the file at ``source``, or the shipped one of that name in ``folder``; the error names those."""
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if str(source) not in known and Path(source).is_file():
        return Path(source)
    require_choice(what, str(source), known, remedy=", or give a .yaml file")
    return folder / f"{source}.yaml"


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping."""
    unreadable = (yaml.YAMLError, ValueError, RecursionError)
    with as_config_error(unreadable, lambda error: f"{path} cannot be read: {error}"):
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
        if not isinstance(content, dict):
            raise ValueError(f"the top level must be a mapping of keys to values, not {type(content).__name__}.")
        return content


def run_configs(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """
    Yield the path and the keys of the configs in the folder of an SAE and in the folder above it, nearest first.

    Files of other tools are skipped; a folder without an SAE has no configs.
    """
    for path in (folder / CONFIG_FILENAME, folder.parent / CONFIG_FILENAME):
        if not (folder / SAE_CFG_FILENAME).is_file() or not path.is_file():
            continue
        raw = read_yaml(path)
        if is_run_config(raw):
            yield path, with_dataset_beside(path.parent, raw)


def is_run_config(raw: Mapping[str, Any]) -> bool:
    """Return whether a file with these keys is of a run, not of another tool."""
    return "sae" in raw and ("hook_name" in raw or raw.get("source") == "vectors")


def with_dataset_beside(folder: Path, raw: dict[str, Any]) -> dict[str, Any]:
    """Resolve a relative ``dataset_path`` or ``data`` that exists in ``folder``, the config file's folder."""
    for key in ("dataset_path", "data"):
        dataset = raw.get(key)
        if isinstance(dataset, str) and dataset and (folder / dataset).exists():
            raw[key] = str((folder / dataset).resolve())
    return raw


def flat_keys(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested sections by dotted key, as in overrides: ``sae.k``."""
    flat: dict[str, Any] = {}
    for key, value in section.items():
        flat |= flat_keys(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def yaml_value(text: str) -> Any:
    """Parse ``text`` as a YAML value; return the text itself if it is not YAML."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError):
        return text


def yaml_text(value: Any) -> str:
    """Return a text that :func:`yaml_value` parses to ``value``: ``str(value)`` if that works, else JSON."""
    value = plain_value(value)
    plain = str(value)
    read = yaml_value(plain)
    return plain if type(read) is type(value) and read == value else json.dumps(value, ensure_ascii=False, default=str)


def yaml_document(content: Mapping[str, Any]) -> str:
    """Return ``content``, made plain, as YAML that :func:`read_yaml` reads back equal, in the same order."""
    return yaml.dump(plain_value(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """YAML loader that reads ``3e-4`` as a number, ``12:30`` (750 in YAML 1.1) as text, and rejects duplicate keys."""

    @override
    def resolve(self, kind: type[yaml.Node], value: str | None, implicit: Any) -> str:
        tag = super().resolve(kind, value, implicit)
        base_sixty = tag in (f"{TAG}int", f"{TAG}float") and ":" in str(value)
        return f"{TAG}str" if base_sixty or tag == f"{TAG}timestamp" else tag

    @override
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen and key.tag != f"{TAG}merge":
                raise yaml.YAMLError(f"the key {key.value!r} is there twice, again in line {key.start_mark.line + 1}")
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep=deep)


class _Dumper(yaml.SafeDumper):
    """YAML dumper that quotes texts which :class:`_Loader` would read as numbers."""


for _each in (_Loader, _Dumper):
    _each.add_implicit_resolver(
        f"{TAG}float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
    )
