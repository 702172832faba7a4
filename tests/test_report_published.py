"""The published tables: what follows from them, and what is marked."""

import pytest

from cvfp.records.errors import InputError
from cvfp.report.published import Printed, published_report, reachable


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
    titles = [line for line in published_report(["v2"]).splitlines() if line.startswith("## ")]
    assert titles == ["## v2", "## What the tables do not support"]


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


def test_the_comparison_at_unequal_data_is_shown_with_the_right_figures():
    text = published_report()
    row = row_of(text, "cvfp 1L_768d", "v2 (published) → v3 (published)", "196.3")
    assert row == (
        "| cvfp 1L_768d | v2 (published) → v3 (published) | 196.3 | 587,970 | 168.0 | 948,524 | -14.4% | "
        "+2.7%, +3.6%, +3.6% | 152.3 |"
    )
    assert "| -15.2% | -13.5%, -3.7%, +0.8% |" in text


def test_small_points_that_were_not_trained_to_the_end_change_the_exponent():
    text = published_report(["v1", "v2"])
    v1 = row_of(text, "v1 (published)", "1L_768d_1tok", "50")
    assert v1.endswith("| 50 | 80 | 170.6 | 108.3 | -0.5461 | -0.4714 | +0.0747 |")
    v2 = row_of(text, "v2 (published)", "1L_768d_1tok", "50")
    assert v2.endswith("| 50 | 160 | 65.9 | 93.4 | -0.4760 | -0.4320 | +0.0440 |")


def test_no_ranking_of_widths_by_exponent_is_supported():
    section = published_report(["v1", "v2"]).split("### Rankings by α")[1].split("###")[0]
    rows = [line for line in section.splitlines() if line.startswith("| v") and "(published)" in line]
    assert len(rows) == 6 and all("no verdict" in row for row in rows)


def test_iterations_at_the_cap_are_lower_bounds():
    text = published_report()
    assert text.count("| ≥ 40 |") == 3
    assert "| v2 (published) | 1L_768d_1tok | ≥" not in text


def test_ppl_per_million_parameters_comes_with_its_caveat():
    text = published_report(["v1"])
    assert "| 1,181,952 | 198.2 | 167.7 | 77.5% | 595/768 |" in text
    assert "falls as parameters grow whatever a model does" in text


def test_one_version_alone_is_compared_with_none():
    text = published_report(["v3"])
    assert "Versions compared at unequal data" not in text and "Several settings" not in text
