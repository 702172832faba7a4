"""What a run told while it trained, read back."""

import pytest

from cvfp.records.errors import InputError
from cvfp.records.results import read_metrics

LINES = """{"phase": "phase 1", "step": 2, "seconds": 0.5, "convergence_rate": 0.25}
{"phase": "phase 2", "step": 50}
"""


def test_lines_are_read_in_order_with_their_numbers(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(LINES)
    first, second = read_metrics(path)
    assert (first.phase, first.step, first.seconds, first.values) == (
        "phase 1",
        2,
        0.5,
        {"convergence_rate": 0.25},
    )
    assert (second.step, second.seconds, second.values) == (50, None, {})


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_last_line_that_is_not_whole_is_left_out(tmp_path, cut):
    path = tmp_path / "metrics.jsonl"
    path.write_text(LINES[:-cut])
    assert len(read_metrics(path)) == 1


def test_no_file_means_nothing_was_kept(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == ()


@pytest.mark.parametrize("bad", ["not json", "[1]", '{"step": 1}', '{"phase": "phase 1", "step": "2"}'])
def test_a_damaged_line_is_named(tmp_path, bad):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f"{bad}\n{LINES}")
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 1"):
        read_metrics(path)
