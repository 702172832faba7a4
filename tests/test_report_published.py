"""The published tables: what follows from them, and what is marked."""

import pytest

from cvfp.records.errors import InputError
from cvfp.report.published import published_report
from cvfp.report.rounding import Printed, reachable


def row_of(text: str, *starts: str) -> str:
    """The table row whose first cells are `starts`."""
    (found,) = [line for line in text.splitlines() if line.startswith("| " + " | ".join(starts) + " |")]
    return found


def test_every_printed_exponent_factor_and_r_squared_follows():
    text = published_report()
    assert text.count("All printed α, A and R² follow from the printed perplexities.") == 3
    assert "All printed α, A and R² of the windows follow from the printed perplexities." in text


def test_every_printed_extrapolation_is_marked_beside_the_right_one():
    v1, v3 = published_report(["v1"]), published_report(["v3"])
    assert "6 of 6 printed predictions do not follow" in v1
    assert "4 of 4 printed predictions do not follow" in v3
    assert row_of(v1, "1L_768d_1tok", "1M").startswith("| 1L_768d_1tok | 1M | 150 ✗ | 141.5 |")
    assert row_of(v1, "1L_1537d_1tok", "10M").startswith("| 1L_1537d_1tok | 10M | 53 ✗ | 45.1 |")
    assert row_of(v3, "1L_768d_2tok", "5M").startswith("| 1L_768d_2tok | 5M | 92 ✗ | 73.6 |")


def test_v3_shows_its_windows_and_their_change():
    text = published_report(["v3"])
    assert row_of(text, "50 to 400").startswith("| 50 to 400 | -0.5044 | -0.5043 |")
    assert "Change of α printed +0.0722 (+14.3%, degrading), recomputed +0.0721 (+14.3%, degrading)" in text


def test_recomputed_values_stand_beside_printed_ones_with_an_interval():
    row = row_of(published_report(["v2"]), "1L_768d_1tok")
    assert row == (
        "| 1L_768d_1tok | -0.4761 | -0.4760 | -0.5984 to -0.3537 | 107,000 | 106,668 | 0.993 | 0.9929 |"
    )


def test_only_the_named_versions_are_shown():
    assert [line for line in published_report(["v2"]).splitlines() if line.startswith("## ")] == ["## v2"]


def test_unknown_version_lists_those_there_are():
    with pytest.raises(InputError, match="no published version 'v9'; there are v1, v2, v3"):
        published_report(["v1", "v9"])


def test_a_number_follows_when_some_input_within_half_a_unit_gives_it():
    inputs = [Printed(1.5, 0.1), Printed(2.0, 0.1)]
    total = reachable(lambda a, b: a + b, inputs)
    assert total == pytest.approx((3.4, 3.6))
    assert Printed(4.0, 1).follows(total)
    assert Printed(3.6, 0.1).follows(total)
    assert not Printed(3.8, 0.1).follows(total)


def test_significant_digits_give_the_unit():
    assert Printed.significant(267000, 3).bounds == (266500, 267500)
    assert Printed.significant(97100, 3).bounds == (97050, 97150)
