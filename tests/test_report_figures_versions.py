"""The figure that sets versions side by side: only what was trained on equal tokens is compared."""

from __future__ import annotations

import pytest
from figure_helpers import (
    RESULTS,
    SHAPES,
    assert_readable,
    changed_point,
    legend_names,
    texts_of,
    titled,
    xy,
)
from marks import one_quick
from report_helpers import DEFAULT_LINES, LineSpec, write_sweep

from cvfp.report.figures.style import save
from cvfp.report.figures.versions import groups_of, versions_figure
from cvfp.report.versions import read_version, rows_of

OURS = tuple(str(RESULTS / name) for name in ("v1", "v2", "v3"))
PUBLISHED = ("published:v1", "published:v2", "published:v3")


def versions_of(sources):
    return [read_version(str(source)) for source in sources]


def invented(directory, count, rows=1, **settings):
    """`count` sweeps of one experiment, each with another weight of the dispersion loss."""
    made = []
    for index in range(count):
        lines = [
            LineSpec(
                "cvfp",
                f"{layers}L_768d_{tokens}tok",
                {
                    "model.num_layers": layers,
                    "model.num_input_tokens": tokens,
                    "phase1.dist_reg_weight": 0.5 + 0.1 * index,
                },
                (-0.31 - 0.01 * index, 10_000.0 * (1 + 0.03 * place)),
            )
            for place, (layers, tokens) in enumerate(SHAPES[:rows])
        ]
        made.append(write_sweep(directory / f"version {index}", lines=lines, **settings))
    return made


@pytest.mark.parametrize("count", one_quick(5, 2))
@pytest.mark.parametrize("rows", one_quick(9, 1))
def test_no_labels_touch_for_two_to_five_versions_of_one_to_nine_lines(tmp_path, count, rows):
    versions = versions_of(invented(tmp_path, count, rows, sizes=(50, 100, 200), seeds=(42, 43)))
    figure = versions_figure(versions)
    assert_readable(figure)
    assert len(figure.axes) == 5
    assert len(titled(figure, "phase 1 iterations").patches) == count * rows


@pytest.mark.parametrize(
    "sources", [OURS, PUBLISHED, (*OURS[::2], PUBLISHED[0])], ids=["ours", "published", "mixed"]
)
def test_no_labels_touch_in_real_versions(sources):
    assert_readable(versions_figure(versions_of(sources)))


def test_results_are_those_at_the_largest_size_that_all_versions_have():
    group, *others = groups_of(rows_of(versions_of(PUBLISHED)))
    assert (group.name, group.num_samples) == ("cvfp 1L_768d", 200)
    assert [entry.ppl.value for entry in group.entries] == pytest.approx([294.5, 286.4, 296.8])
    assert [entry.rank.value for entry in group.entries] == pytest.approx([77.5, 79.1, 81.3])
    assert [(one.num_samples, len(one.entries)) for one in others] == [(500, 2), (500, 2)]


def test_other_tokens_are_not_compared():
    versions = versions_of([OURS[0], PUBLISHED[0]])
    groups = groups_of(rows_of(versions))
    assert [group.num_samples for group in groups] == [None, None, None]
    assert all(entry.ppl is None and entry.alpha is not None for group in groups for entry in group.entries)
    (axes,) = versions_figure(versions).axes
    assert axes.get_title() == "α"
    assert [label.get_text().split("\n")[1] for label in axes.get_yticklabels()] == ["no size in common"] * 3


def test_another_test_text_is_not_compared(tmp_path):
    first = write_sweep(tmp_path / "one", lines=DEFAULT_LINES[:1])
    second = write_sweep(tmp_path / "two", lines=DEFAULT_LINES[:1], corpus="elsewhere.txt")
    (group,) = groups_of(rows_of(versions_of([first, second])))
    assert group.num_samples is None


def test_exponents_are_also_shown_over_the_common_sizes_where_those_are_fewer(tmp_path):
    first = write_sweep(tmp_path / "one", lines=DEFAULT_LINES[:1], sizes=(50, 100, 200, 400))
    second = write_sweep(tmp_path / "two", lines=DEFAULT_LINES[:1], sizes=(50, 100, 200))
    versions = versions_of([first, second])
    (group,) = groups_of(rows_of(versions))
    longer, shorter = (entry.alpha for entry in group.entries)
    assert shorter.other is None and longer.other.value == pytest.approx(shorter.value)
    assert longer.other.interval == pytest.approx(shorter.interval) and longer.value != longer.other.value
    figure = versions_figure(versions)
    hollow = [one for one in titled(figure, "α").lines if one.get_markerfacecolor() == "white"]
    ((value, height),) = [place for one in hollow for place in xy(one)]
    assert value == longer.other.value and 0 < height < 0.5
    assert [(end, height) for end in longer.other.interval] in [xy(one) for one in titled(figure, "α").lines]
    assert "α over common sizes only" in legend_names(figure)


def test_iterations_that_ended_at_the_cap_are_hatched_and_a_lower_bound():
    figure = versions_figure(versions_of(PUBLISHED))
    bars = titled(figure, "phase 1 iterations").patches
    assert [bar.get_hatch() is not None for bar in bars] == [True, False, False, True, False, True, False]
    texts = [text.get_text() for text in texts_of(figure)]
    assert texts.count("≥ 40") == 3 and "25" in texts and "40" not in texts


def test_lines_of_a_single_version_are_left_out(tmp_path):
    first = write_sweep(tmp_path / "one", lines=DEFAULT_LINES)
    second = write_sweep(tmp_path / "two", lines=DEFAULT_LINES[:2])
    figure = versions_figure(versions_of([first, second]))
    names = [label.get_text().split("\n")[0] for label in figure.axes[0].get_yticklabels()]
    assert names == ["cvfp 1L_768d", "kneser-ney 5gram"]
    assert len(titled(figure, "phase 1 iterations").patches) == 2


def test_versions_that_share_no_line_write_nothing(tmp_path):
    first = write_sweep(tmp_path / "one", lines=DEFAULT_LINES[:1])
    second = write_sweep(tmp_path / "two", lines=DEFAULT_LINES[1:2])
    assert save(versions_figure(versions_of([first, second])), tmp_path / "none.png") is False
    assert not (tmp_path / "none.png").exists()


def test_lines_without_any_result_are_left_out(tmp_path):
    def failed(run):
        return changed_point(run, status="failed", val_ppl=None, phase1_iter=None)

    first = write_sweep(tmp_path / "one", lines=DEFAULT_LINES[:1], change=failed)
    second = write_sweep(tmp_path / "two", lines=DEFAULT_LINES[:1], change=failed)
    assert versions_figure(versions_of([first, second])) is None


def test_seeds_of_a_partial_sweep_are_paired(tmp_path):
    def without_one(run):
        return None if (run.point.seed, run.point.num_samples) == (43, 400) else run

    first = write_sweep(tmp_path / "one", lines=DEFAULT_LINES[:1], seeds=(42, 43))
    second = write_sweep(tmp_path / "two", lines=DEFAULT_LINES[:1], seeds=(42, 43), change=without_one)
    (group,) = groups_of(rows_of(versions_of([first, second])))
    assert group.num_samples == 400 and [len(entry.ppl.seeds) for entry in group.entries] == [1, 1]


def test_names_of_directories_are_shown_as_they_are_and_files_repeat(tmp_path):
    sources = [write_sweep(tmp_path / name, lines=DEFAULT_LINES[:1]) for name in ("$a_1$ b", r"\frac %d")]
    versions = versions_of(sources)
    assert legend_names(versions_figure(versions))[:2] == ["$a_1$ b", r"\frac %d"]
    for name in ("one.png", "two.png"):
        assert save(versions_figure(versions), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
