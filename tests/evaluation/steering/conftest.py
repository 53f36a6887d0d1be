"""The models that are steered, each loaded once for a file of tests."""

from functools import cache
from pathlib import Path

import pytest

from tests.evaluation.steerable import Models, model_of


@pytest.fixture(scope="module")
def models(tiny_models: dict[str, Path]) -> Models:
    return cache(lambda kind: model_of(kind, tiny_models))
