"""SAELens's own upload and download of signed SAEs."""

import pytest
import torch
from huggingface_hub import hf_api
from sae_lens import SAE, upload_saes_to_huggingface

from tests.equivalents.test_mirror import ARCHITECTURES, signed
from tests.hub.published import REPO
from tests.hub.server import HubServer


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_saelens_uploads_it_fetches_with_equal_codes(
    hub: HubServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the client that huggingface_hub makes when it is imported, before the fixture
    monkeypatch.setattr(hf_api.api, "endpoint", hub.endpoint)
    sae, x = signed(name), torch.randn(5, 8)
    upload_saes_to_huggingface({"layer3/mine": sae}, REPO, show_progress=False)
    fetched = SAE.from_pretrained(REPO, "layer3/mine")
    assert type(fetched) is type(sae)
    assert torch.equal(fetched.encode(x), sae.encode(x))
    assert torch.equal(fetched(x), sae(x))
