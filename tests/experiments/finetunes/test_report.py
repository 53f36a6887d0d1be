"""The page of two models has the numbers of the records of planted fine-tunes."""

from experiments.finetunes.report import PAGE, lines, page


def first_shares(record: str) -> list[float]:
    """Largest KL shares of latents, in percent, of the first signed SAE of each behaviour."""
    first = [line for line in lines(record) if (line["method"], line["seed"]) == ("signed", 0)]
    return sorted(100 * max(line["share"].values()) for line in first)


def test_the_page_has_the_numbers_of_the_records() -> None:
    assert page() == PAGE.read_text()


def test_the_largest_kl_share_tells_fine_tunes_of_one_direction_from_others() -> None:
    narrow, wide = ([f"{each:.0f}" for each in first_shares(record)] for record in ("narrow", "planted"))
    said = f"{wide[0]} to {wide[-1]} % for the first latent, where it was {narrow[0]} to {narrow[-1]} % above"
    assert said in " ".join(PAGE.read_text().split())


def test_a_latent_of_large_kl_share_carries_each_behaviour_and_of_the_mixture_mostly_one_each() -> None:
    chosen: dict[tuple[str, int], list[str]] = {}
    for line in lines("narrow"):
        if line["method"] == "signed":
            rank = list(line["share"]).index(line["direction"])
            assert rank < (5 if line["fine_tune"].startswith("mixture") else 2)
            chosen.setdefault((line["fine_tune"], line["seed"]), []).append(line["direction"])
    of_both = [latents for latents in chosen.values() if len(latents) == 2]
    assert [len(set(latents)) for latents in of_both].count(2) == 4
    assert len(of_both) == 5
