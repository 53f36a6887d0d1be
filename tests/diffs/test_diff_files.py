import json
from pathlib import Path

import pytest

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.diffs.diff_files import CONTEXTS, RESULTS, Diff
from tests.diffs.diff_example import example


def test_a_comparison_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = example()
    written.write(tmp_path)
    read = Diff.read(tmp_path)
    assert repr(read) == repr(written)  # nan != nan
    assert json.loads((tmp_path / CONTEXTS).read_text())["parting"][0]["kl"][-1] is None
    (tmp_path / RESULTS).write_text("{}")
    with pytest.raises(ConfigError, match="make it with `abstopk diff`"):
        Diff.read(tmp_path)
