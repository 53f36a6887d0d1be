"""What is published loads again, bit for bit: here, with SAELens alone, and by the commands."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE, JumpReLUSAE, TopKSAE, TopKSAEConfig

from sae_lens_abstopk import ConfigError, publish, pull
from sae_lens_abstopk.hub.manifest import Manifest
from sae_lens_abstopk.saes.poles import PoleActivity
from tests.cli.test_cli import invoke
from tests.equivalents.test_mirror import F, inputs, poles_of
from tests.hub.published import REPO, an_sae, saved
from tests.hub.server import WRITER, HubServer


def activity(sae: Any) -> PoleActivity:
    return PoleActivity.zeros(F).update(sae.encode(inputs(torch.float32, 200)))


def card_of(hub: HubServer, branch: str = "main") -> str:
    return hub.repos[REPO].files(branch)["README.md"].content.decode()


@pytest.mark.parametrize("architecture", ["abstopk", "abstopk rescaled", "signed_jumprelu"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_come_back_equal_to_the_bit(hub: HubServer, tmp_path: Path, architecture: str, dtype: str) -> None:
    folder = saved(tmp_path, architecture, dtype=dtype)
    done = publish({"layer3/mine": folder}, REPO)
    source = SAE.load_from_disk(folder)
    for sae in (pull(REPO, "layer3/mine").sae, SAE.from_pretrained(REPO, "layer3/mine", dtype=dtype)):
        assert type(sae) is type(source)
        for name, weight in source.state_dict().items():
            assert torch.equal(sae.state_dict()[name], weight), name
    assert len(hub.repos[REPO].commits) == 2, "the first of the repository, and ours"
    assert done.commit == hub.repos[REPO].branches["main"]
    assert set(done.files) == set(hub.repos[REPO].files()) - {".gitattributes"}
    again = publish({"layer3/mine": folder}, REPO)
    assert (again.commit, again.changed) == (done.commit, ())


@pytest.mark.usefixtures("hub")
def test_measured_poles_put_it_into_the_canonical_gauge_and_are_published() -> None:
    sae = an_sae()
    publish({"mine": sae}, REPO, poles={"mine": activity(sae)}, with_mirror=True)
    pulled = pull(REPO, "mine")
    x = inputs()
    assert torch.equal(pulled.sae(x), sae(x))
    energy = activity(pulled.sae).energy
    assert (energy[0] >= energy[1]).all()
    assert torch.equal(PoleActivity.load(pulled.folder).energy, energy)
    assert pulled.record.gauge == "canonical"
    assert (pulled.folder / "two_sidedness.svg").read_text().startswith("<svg")
    mirrored = pull(REPO, "mine_mirror")
    assert isinstance(mirrored.sae, JumpReLUSAE)
    torch.testing.assert_close(mirrored.sae.encode(x), poles_of(pulled.sae.encode(x)), rtol=1e-5, atol=1e-5)
    assert mirrored.record.mirror_of == "mine"


@pytest.mark.filterwarnings("ignore:\\nThis SAE has non-empty model_from_pretrained_kwargs")
def test_nothing_of_this_machine_or_of_the_token_is_published(hub: HubServer) -> None:
    sae = an_sae()
    sae.cfg.metadata.model_from_pretrained_kwargs = {
        "token": "hf_mine",
        "cache_dir": "/home/me/cache",
        "config": {"at": ["/home/me/x.json"]},
        "dtype": "bfloat16",
    }
    publish({"mine": sae}, REPO, base_model="someone/tiny", with_mirror=True)
    for path, blob in hub.repos[REPO].files().items():
        for secret in (b"/home/me", b"hf_mine", WRITER.encode()):
            assert secret not in blob.content, path
    metadata = pull(REPO, "mine").sae.cfg.metadata
    assert (metadata.model_name, metadata.dataset_path) == ("someone/tiny", "texts.jsonl")
    assert metadata.model_from_pretrained_kwargs == {"config": {"at": ["x.json"]}, "dtype": "bfloat16"}
    assert "base_model: someone/tiny" in card_of(hub)
    sent_elsewhere = {token for _, path, token in hub.requests if path.startswith("/cdn/")}
    assert sent_elsewhere == {None}, "the token goes to the Hub alone"


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("model_name", "base_model", "expected", "weights"),
    [
        (r"C:\Users\me\tiny", None, "tiny", None),
        ("models/secret/tiny", "someone/tiny", "someone/tiny", None),
        ("someone/tiny", "someone/other", "someone/tiny", None),
        (None, "someone/tiny", "someone/tiny", None),
        ("/models/tiny-4bit", "someone/tiny", "someone/tiny", "tiny-4bit"),
    ],
)
def test_the_model_is_named_as_others_find_it(
    model_name: str | None, base_model: str | None, expected: str, weights: str | None
) -> None:
    sae = an_sae()
    sae.cfg.metadata.model_name = model_name
    sae.cfg.metadata.label = "/home/me/mine"
    publish({"mine": sae}, REPO, base_model=base_model)
    metadata = pull(REPO, "mine").sae.cfg.metadata
    assert (metadata.model_name, metadata.model_weights, metadata.label) == (expected, weights, "mine")
    assert pull(REPO, "mine").record.base_model == (expected if "/" in expected else None)


@pytest.mark.usefixtures("hub")
def test_a_folder_of_one_word_is_not_the_name_of_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lm").mkdir()
    sae = an_sae()
    sae.cfg.metadata.model_name = "lm"
    publish({"mine": sae}, REPO, base_model="someone/tiny")
    metadata = pull(REPO, "mine").sae.cfg.metadata
    assert (metadata.model_name, metadata.model_weights) == ("someone/tiny", "lm")


def test_a_second_sae_joins_the_first_and_the_card_has_both(hub: HubServer, tmp_path: Path) -> None:
    publish({"one": saved(tmp_path)}, REPO, license="mit")
    publish({"two": saved(tmp_path, "abstopk")}, REPO)
    manifest = Manifest.from_json(hub.repos[REPO].files()["abstopk.json"].content, "here")
    assert list(manifest.saes) == ["one", "two"]
    assert manifest.license == "mit"
    card = card_of(hub)
    assert "| `one` |" in card
    assert "| `two` |" in card
    assert "With SAELens alone, 6.53 or later (two):" in card
    assert pull(REPO, "one").sae.cfg.architecture() == "signed_jumprelu"
    assert len(hub.repos[REPO].commits) == 3
    with pytest.raises(ConfigError, match="'three' must be one of one, two"):
        pull(REPO, "three")


def test_the_mirror_of_weights_that_are_replaced_does_not_stay(hub: HubServer, tmp_path: Path) -> None:
    publish({"mine": saved(tmp_path)}, REPO, with_mirror=True)
    other, before = saved(tmp_path, "abstopk"), hub.repos[REPO].branches["main"]
    with pytest.raises(ConfigError, match=r"mine_mirror, the mirror of the earlier weights .* add --mirror"):
        publish({"mine": other}, REPO, overwrite=True)
    assert hub.repos[REPO].branches["main"] == before
    publish({"mine": other}, REPO, overwrite=True, with_mirror=True)
    x = inputs()
    mirrored = pull(REPO, "mine_mirror").sae
    torch.testing.assert_close(mirrored.encode(x), poles_of(pull(REPO, "mine").sae.encode(x)), rtol=1e-5, atol=1e-5)


def test_a_branch_of_its_own_leaves_main_alone(hub: HubServer, tmp_path: Path) -> None:
    folder = saved(tmp_path)
    done = publish({"mine": folder}, REPO, revision="v2", private=True)
    assert hub.repos[REPO].private
    assert set(hub.repos[REPO].files("main")) == {".gitattributes"}
    assert pull(REPO, "mine", revision="v2").commit == done.commit
    with pytest.raises(ConfigError, match=r"has no abstopk\.json"):
        pull(REPO, "mine")
    card = card_of(hub, "v2")
    assert "`abstopk pull someone/signed-saes mine --revision v2`" in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    assert torch.equal(namespace["sae"].W_dec, SAE.load_from_disk(folder).W_dec)


def test_other_files_of_the_same_name_are_left_alone_unless_told(hub: HubServer, tmp_path: Path) -> None:
    publish({"mine": an_sae()}, REPO, poles={"mine": activity(an_sae())})
    other = saved(tmp_path, "abstopk")
    with pytest.raises(ConfigError, match=r"at mine/cfg\.json, mine/pole_activity\.safetensors, .*--overwrite"):
        publish({"mine": other}, REPO)
    assert pull(REPO, "mine").sae.cfg.architecture() == "signed_jumprelu"
    del hub.repos[REPO].files()["mine/two_sidedness.svg"]  # by hand; it is not to be deleted again
    publish({"mine": other}, REPO, overwrite=True)
    assert pull(REPO, "mine").sae.cfg.architecture() == "abstopk"
    assert "mine/pole_activity.safetensors" not in hub.repos[REPO].files(), "no file of the old one is left"


def test_a_release_keeps_its_gauge_unless_told_otherwise(hub: HubServer) -> None:
    sae = an_sae()
    energy = torch.tensor([[2.0], [1.0]]).expand(
        2, F
    )  # which flips no sign, so that the weights are the same either way
    poles = {"mine": PoleActivity(counts=energy.long(), energy=energy, n_tokens=1)}
    first = publish({"mine": sae}, REPO, poles=poles)
    with pytest.raises(ConfigError, match=r"signs of mine are canonical there; --measure"):
        publish({"mine": sae}, REPO)
    assert hub.repos[REPO].branches["main"] == first.commit
    assert publish({"mine": sae}, REPO, poles=poles).changed == ()
    publish({"mine": sae}, REPO, overwrite=True)
    assert pull(REPO, "mine").record.gauge == "as trained"


@pytest.mark.parametrize(
    ("sae_id", "options", "sentence"),
    [
        ("one", {"revision": "v2"}, "has other files at one/cfg.json"),
        ("two", {"license": "apache-2.0"}, "has the licence mit for all SAEs"),
        ("two", {"private": True}, "is public already"),
        ("two", {}, "has other files at README.md"),
    ],
)
def test_a_conflict_is_refused_and_leaves_nothing(
    hub: HubServer, tmp_path: Path, sae_id: str, options: dict[str, Any], sentence: str
) -> None:
    publish({"one": saved(tmp_path)}, REPO, license="mit")
    other = {sae_id: saved(tmp_path, "abstopk")}
    if not options:
        hub.repos[REPO].files()["README.md"].content += b"\nA note by hand.\n"
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        publish(other, REPO, **options)
    assert (len(hub.repos[REPO].commits), set(hub.repos[REPO].branches)) == (2, {"main"})
    if not options.get("private"):
        publish(other, REPO, overwrite=True, **options)
        assert pull(REPO, sae_id, revision=options.get("revision", "main")).sae.cfg.architecture() == "abstopk"
        assert pull(REPO, "one").manifest.license == options.get("license", "mit")


def test_a_dry_run_writes_the_release_and_asks_nothing_of_the_hub(hub: HubServer, tmp_path: Path) -> None:
    folder = saved(tmp_path)
    done = invoke("publish", str(folder), "--repo", REPO, "--mirror", "--dry-run", "--out", str(tmp_path / "release"))
    assert done.exit_code == 0, done.output
    assert hub.requests == []
    assert re.search(r"someone/signed-saes  \d+\.\d kB", done.output)
    assert re.search(r"sae_weights\.safetensors  \d\.\d kB", done.output)
    assert "nothing was sent" in done.output
    assert "signed_jumprelu: the positive side of each latent is as trained" in done.output
    assert SAE.load_from_disk(tmp_path / "release" / "signed_jumprelu_mirror").cfg.architecture() == "jumprelu"
    again = invoke("publish", str(folder), "--repo", REPO, "--dry-run", "--out", str(tmp_path / "release"))
    assert again.exit_code == 2
    assert "is not an empty folder" in again.stderr
    not_finite(folder)
    refused = invoke("publish", str(folder), "--repo", REPO, "--dry-run", "--out", str(tmp_path / "other"))
    assert refused.exit_code == 2
    assert not (tmp_path / "other").exists()
    assert publish({"one": saved(tmp_path, "abstopk")}, REPO, dry_run_folder=str(tmp_path / "third")).commit is None


def not_finite(folder: Path) -> None:
    sae = SAE.load_from_disk(folder)
    sae.W_dec.data[3, 2] = torch.nan
    sae.save_model(folder)


@pytest.mark.parametrize(
    ("saes", "repo", "sentence"),
    [
        (["a", "b/a"], REPO, "SAE 'a' must have the form ID=FOLDER, with each name once"),
        (["../x=a"], REPO, "cannot be an SAE id"),
        (["x=a", "x_mirror=b", "--mirror"], REPO, "would be an SAE and the mirror of x"),
        (["README.md=a"], REPO, "cannot be an SAE id"),
        (["a"], "signed-saes", "cannot be a repository (USER/NAME)"),
        (["a"], REPO, "no such folder"),
        (["a", "--out", "b"], REPO, "--out would be ignored without --dry-run; add --dry-run, or leave it out"),
        (["a", "--text", "b", "--tokens", "9"], REPO, "--text and --tokens would be ignored without --measure"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(
    hub: HubServer, saes: list[str], repo: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke("publish", *saes, "--repo", repo)
    assert done.exit_code == 2, done.output
    assert sentence in done.stderr
    assert hub.requests == []


def test_a_non_negative_sae_goes_along_without_a_mirror(hub: HubServer, tmp_path: Path) -> None:
    plain = TopKSAE(TopKSAEConfig(d_in=8, d_sae=F, k=3))
    publish({"mine": saved(tmp_path), "topk": plain}, REPO, with_mirror=True)
    manifest = Manifest.from_json(hub.repos[REPO].files()["abstopk.json"].content, "here")
    assert list(manifest.saes) == ["mine", "mine_mirror", "topk"]
    card = card_of(hub)
    assert "The codes of `mine` are **signed**" in card
    assert "With SAELens alone (mine_mirror, topk):" in card
    assert "The signs of `mine` are as training left them" in card
