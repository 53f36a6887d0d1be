"""Where numbers come from."""

import pytest

from sae_lens_abstopk import provenance


def test_where_git_is_not_installed_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert provenance.commit() is None
    assert provenance.uncommitted() is None
