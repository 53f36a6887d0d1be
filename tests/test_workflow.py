"""The workflow calls the parts of .ci/run; it and the templates of issues are of the form that GitHub reads."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
JOBS = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]


def targets(text: str) -> set[str]:
    """The targets of all calls of make."""
    calls = re.findall(r"^ *(?:\w+=\S+ )?make ([^\n&]+)", text, re.MULTILINE)
    return {word for call in calls for word in call.split() if re.fullmatch(r"[a-z][a-z-]*", word)}


def test_it_runs_what_ci_runs_on_every_python_that_is_supported() -> None:
    matrix = JOBS["part"]["strategy"]["matrix"]
    parts = {*matrix["part"], *(word for case in matrix["include"] for word in case["part"].split())}
    assert targets((ROOT / ".ci" / "run").read_text()) == parts | {"setup"}
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    versions = [line.rpartition(" ")[2] for line in classifiers if re.search(r":: 3\.\d+$", line)]
    assert matrix["python"] == versions
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{part}: " in makefile for part in parts)


def test_templates_of_issues_ask_for_something() -> None:
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        template = yaml.safe_load(path.read_text())
        if path.stem != "config":
            assert template["name"]
            assert template["description"]
            assert all(field["id"] and field["attributes"]["label"] for field in template["body"])
