"""Errors of SAEs are compared at one L0, and a table of others says so."""

import pytest
from pydantic import ValidationError

from sae_lens_abstopk.evaluation.results.fit_record import FitRecord, compared, fit_label, unequal_l0
from sae_lens_abstopk.evaluation.results.records import Interval


def fit(fvu: float, l0: float, d_sae: int = 8) -> FitRecord:
    interval = Interval(value=fvu, low=fvu - 0.01, high=fvu + 0.01, n_units=40)
    return FitRecord(d_sae=d_sae, fvu=interval, l0=l0, fvu_seeds=[fvu], fvu_at_threshold=fvu, l0_at_threshold=l0 + 0.5)


def test_fits_of_one_l0_are_compared() -> None:
    fits = {"signed": fit(0.4, 4), "one_sided_2F": fit(0.41, 4.05)}
    assert compared(fits, "signed") == "FVU .400 (one-sided 2F .410) at L0 4.0; 4.5 with the saved thresholds."
    assert compared({"signed": fit(0.4, 4)}, "signed") == "FVU .400 at L0 4.0; 4.5 with the saved thresholds."


def test_an_sae_of_twice_the_l0_is_not_called_better() -> None:
    fits = {"signed": fit(0.3, 8), "one_sided_F": fit(0.41, 4)}
    assert compared(fits, "signed") == (
        "FVU signed .300 at L0 8.00; one-sided F .410 at L0 4.00: not comparable, since L0 differs."
    )


def test_a_table_of_several_l0_warns() -> None:
    assert unequal_l0({"a": 4.0, "b": 4.05}) == unequal_l0({}) == ""
    assert unequal_l0({"a": 4.0, "b": 3.0, "c": 8.0}).startswith("L0 differs (b 3.0, c 8.0):")


def test_a_record_without_an_l0_is_refused() -> None:
    document = fit(0.4, 4).model_dump()
    del document["l0"]
    with pytest.raises(ValidationError, match="l0"):
        FitRecord.model_validate(document)


def test_a_label_has_the_sizes() -> None:
    assert fit_label("one_sided_2F", fit(0.4, 4, d_sae=16)) == "one-sided, F = 16, L0 4.0"
