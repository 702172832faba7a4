"""Versions side by side: any sweeps, the published tables, and what may be said of them."""

import json
import re
from dataclasses import replace

import pytest
from report_helpers import DEFAULT_LINES, METADATA, LineSpec, write_sweep

from cvfp.cli.main import main
from cvfp.records.errors import InputError
from cvfp.report.compare import comparison_page, comparison_values, read_versions, write_comparison
from cvfp.report.versions import read_version, rows_of

pytestmark = pytest.mark.usefixtures("undrawn")

PUBLISHED = ("published:v1", "published:v2", "published:v3")


def compared(sources) -> str:
    """The comparison as Markdown, without its pictures."""
    return comparison_page(read_versions(sources), None)[0]


def row_of(text: str, title: str, *starts: str, having: str = "") -> str:
    """The row whose first cells are `starts`, of the table under a heading of any kind with such a column."""
    heading = rf"\n(?:##|###|<details><summary>) ?{re.escape(title)}(?:</summary>)?\n"
    part = re.split(r"\n#{2,3} |\n</?details>", re.split(heading, text, maxsplit=1)[1], maxsplit=1)[0]
    tables = [block for block in part.split("\n\n") if having in block.strip().split("\n")[0]]
    rows = [row for block in tables for row in block.splitlines()]
    (found,) = [row for row in rows if row.startswith("| " + " | ".join(starts) + " |")]
    return found


def test_the_published_versions_are_compared_at_equal_tokens():
    text = compared(PUBLISHED)
    step = "v2 (published) → v3 (published)"
    changes = [row_of(text, "Test PPL", "cvfp 1L_768d", step, size) for size in ("50", "100", "200")]
    assert [row.split(" | ")[-2] for row in changes] == ["+2.7%", "+3.6%", "+3.6%"]
    assert all(row.endswith("| no verdict |") for row in changes)
    assert "948,524" not in text


def test_the_answer_is_which_version_is_best_at_the_size_that_all_have():
    text = compared(PUBLISHED)
    answer = text.split("\n## Answer\n")[1].split("\n## ")[0]
    # The printed tables at 200 conversations: 294.5, 286.4, 296.8
    assert answer.startswith(
        "\n> **cvfp 1L_768d: v2 (published) has the lowest test PPL at 200 documents, 286.4.** "
        "v3 (published), the highest, is at +3.6% (1 seed) against it. **1 seed: indicative only.**\n"
    )
    row = row_of(text, "Answer", "cvfp 1L_768d", "200")
    assert row == "| cvfp 1L_768d | 200 | **294.5** | -2.8% | +0.8% |"
    assert row_of(text, "Answer", "cvfp 1L_1537d", "500").endswith(" | – |")


def test_several_seeds_tell_the_versions_of_the_answer_apart(tmp_path):
    slow = replace(DEFAULT_LINES[0], law=(-0.31, 12_000.0), settings={"phase1.context_noise": 0.1})
    write_sweep(tmp_path / "old", lines=(slow,), seeds=(1, 2, 3))
    write_sweep(tmp_path / "new", lines=DEFAULT_LINES[:1], seeds=(1, 2, 3))
    text = compared([str(tmp_path / "old"), str(tmp_path / "new")])
    answer = text.split("\n## Answer\n")[1].split("\n## ")[0]
    assert "new has the lowest test PPL at 400 documents" in answer and "indicative" not in answer
    assert re.search(r"old, the highest, is at \+2\d\.\d% \(95% interval \+", answer)
    assert row_of(text, "Answer", "cvfp 1L_768d", "400").endswith("▼ |")


def test_the_published_exponents_ranks_and_iterations():
    text = compared(PUBLISHED[:2])
    step = "v1 (published) → v2 (published)"
    alpha = row_of(text, "Exponent α", "cvfp 1L_768d", step, having="α before")
    assert "| -0.5461 | -0.4760 | +0.0701 |" in alpha and alpha.endswith("| +12.8% | no verdict |")
    assert "| 77.5% | 79.2% | +1.7 points |" in row_of(text, "Effective rank", "cvfp 1L_768d", step)
    iterations = row_of(text, "Iterations of phase 1", "cvfp 1L_1537d", step)
    assert iterations.endswith("| ≥ 40 | 32 | – | – | – | no verdict |")
    assert "| 23.1% | 23.0% | -0.1 points |" in row_of(text, "Accuracy", "cvfp 1L_1200d", step)


@pytest.mark.parametrize(("alpha", "verdict"), [(-0.36, "b falls faster"), (-0.311, "no clear difference")])
def test_laws_are_compared_beyond_their_data(tmp_path, alpha, verdict):
    """The second law is planted to cross the first at 100,000 tokens."""

    def turned(run):
        """The draws of the second line differ in their slopes."""
        point = run.point
        ppl = point.val_ppl * (point.train_tokens / 100_000) ** (0.003 * (point.seed - 2))
        return run.model_copy(update={"point": point.model_copy(update={"val_ppl": ppl})})

    A = 10_000 * 100_000 ** (-0.31 - alpha)
    for name, law in (("a", (-0.31, 10_000.0)), ("b", (alpha, A))):
        lines = [LineSpec("cvfp", "1L_768d_1tok", {"phase2.lr": abs(law[0])}, law)]
        change = turned if name == "b" else lambda run: run
        write_sweep(tmp_path / name, lines=lines, seeds=(1, 2, 3), change=change)
    text = compared([str(tmp_path / name) for name in "ab"])
    row = row_of(text, "Exponent α", "cvfp 1L_768d", "a → b", having="laws cross").split(" | ")
    assert row[4] == verdict and row[6] == "4,800,000"
    if alpha == -0.36:
        assert float(row[2]) == pytest.approx(-0.05, abs=0.01) and row[5] == "below 0.01"
        crossing = re.match(r"The lines cross at ([\d,]+) tokens \(95% interval [\d,]+ to", row[7])
        assert int(crossing[1].replace(",", "")) == pytest.approx(100_000, rel=0.3)
    else:
        assert row[7].startswith("Where the lines cross, if they do, is not determined")


def test_several_settings_are_listed_and_none_is_credited():
    text = compared(PUBLISHED[:2])
    assert row_of(text, "Settings that differ", "cvfp 1L_768d", "phase1.context_noise").endswith(
        "| 0.1 | 0.0 |"
    )
    assert text.count("4 settings differ") == 3  # one for every width
    assert "Only " not in text


def test_lines_belong_together_by_the_coarsest_names_that_tell_them_apart(tmp_path):
    one = (LineSpec("cvfp", "1L_768d_1tok"), LineSpec("cvfp", "1L_768d_1tok x", {"phase2.lr": 1e-4}))
    for name, lines in (("a", one), ("b", DEFAULT_LINES)):
        write_sweep(tmp_path / name, lines=lines)
    rows = rows_of([read_version(str(tmp_path / name)) for name in "ab"])
    assert [(row.name, [line is not None for line in row.lines]) for row in rows][:2] == [
        ("cvfp 1L_768d_1tok", [True, True]),
        ("cvfp 1L_768d_1tok x", [True, False]),
    ]


def test_a_real_change_of_one_setting_has_a_verdict_and_a_cause(tmp_path):
    slow = replace(DEFAULT_LINES[0], law=(-0.31, 12_000.0), settings={"phase1.context_noise": 0.1})
    write_sweep(tmp_path / "old", lines=(slow,), seeds=(1, 2, 3))
    write_sweep(tmp_path / "new", lines=DEFAULT_LINES[:1], seeds=(1, 2, 3))
    text = compared([str(tmp_path / "old"), str(tmp_path / "new")])
    assert "new against old: PPL -16" in text
    assert ": lower) at 400 documents" in text
    assert "Only phase1.context_noise 0.1 → 0.0 differs." in text
    assert row_of(text, "Test PPL", "cvfp 1L_768d", "old → new", "50").endswith("| lower |")
    assert "| lowest perplexity | new |" in text


def test_versions_that_an_arm_cannot_tell_apart_are_the_same(tmp_path):
    write_sweep(tmp_path / "old", lines=DEFAULT_LINES[:2])
    write_sweep(tmp_path / "new", lines=DEFAULT_LINES[:2])
    text = compared([str(tmp_path / "old"), str(tmp_path / "new")])
    assert "- kneser-ney 5gram old → new" in text.split("\nThe same results, since")[1]


def test_nothing_in_common_is_said(tmp_path):
    write_sweep(tmp_path / "old", lines=DEFAULT_LINES[:1], corpus="a")
    write_sweep(tmp_path / "new", lines=DEFAULT_LINES[:1], corpus="b")
    text = compared([str(tmp_path / "old"), str(tmp_path / "new")])
    assert "nothing can be compared" in text
    assert "- cvfp 1L_768d old → new" in text.split("## Not compared")[1]


def test_other_data_under_the_same_settings_is_refused(tmp_path):
    for name, fingerprint in (("old", "1"), ("new", "2")):
        write_sweep(tmp_path / name, metadata=METADATA | {"datasets": {"chitchat gpt2 x": fingerprint}})
    with pytest.raises(InputError, match="was run on other data than"):
        read_versions([str(tmp_path / "old"), str(tmp_path / "new")])


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (("published:v1",), "needs two or more sweeps, got 1"),
        (("published:v1", "published:v9"), "no published version 'v9'; there are v1, v2, v3"),
        (("published:v1", "published:v1"), "two versions are called 'v1"),
        (("published:v1", "nowhere"), "no such directory"),
    ],
)
def test_bad_sources_get_one_line(sources, message, capsys):
    assert main(["compare", *sources]) == 2
    assert message in capsys.readouterr().err


def test_a_sweep_without_a_point_cannot_be_compared(tmp_path):
    write_sweep(tmp_path / "new", change=lambda run: None)
    with pytest.raises(InputError, match="nothing to compare"):
        read_versions(["published:v1", str(tmp_path / "new")])


def test_files_are_written_with_the_figure(tmp_path):
    written = write_comparison(read_versions(PUBLISHED), tmp_path / "out")
    names = [path.name for path in written]
    figures = ["version_ppl.png", "version_ratio.png", "version_comparison.png"]
    assert names == ["compare.md", "compare.html", *figures]
    assert "](figures/version_comparison.png)" in written[0].read_text(encoding="utf-8")
    assert "data:image/png;base64," in written[1].read_text(encoding="utf-8")


def test_json_holds_the_numbers_of_the_tables(capsys):
    assert main(["compare", *PUBLISHED, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values == json.loads(json.dumps(comparison_values(read_versions(PUBLISHED))))
    names = ("v2 (published)", "v3 (published)")
    (step,) = [each for each in values["changes"] if (each["before"], each["after"]) == names]
    assert (step["num_samples"], round(step["ppl_change_percent"], 1)) == (200, 3.6)
    assert step["ppl_change_ci95"] is None
    assert step["settings"] == {"model.num_input_tokens": [1, 2], "phase1.slice_length": [8000, 5000]}


def test_json_says_what_the_laws_of_two_versions_say_of_each_other(tmp_path):
    spec = LineSpec("cvfp", "1L_768d_1tok")
    steeper = replace(spec, law=(-0.36, 15_000.0), settings={"phase2.lr": 0.01})
    for name, line in (("a", spec), ("b", steeper)):
        write_sweep(tmp_path / name, lines=(line,), seeds=(1, 2, 3), documents=40)
    (step,) = comparison_values(read_versions([str(tmp_path / name) for name in "ab"]))["changes"]
    found = step["difference"]
    assert found["alpha_difference"] == pytest.approx(step["alpha_change"])
    assert found["alpha_difference_ci95"] == pytest.approx(step["alpha_change_ci95"])
    assert found["interval_kind"] == step["alpha_interval_kind"] == "draws x documents"
    assert step["ppl_interval_kind"] == "draws x documents"
    assert found["ahead_tokens"] == pytest.approx(10 * 400 * 1200)
    assert 0 <= found["first_ahead"] < 0.01
    assert found["crossover"]["status"] == "bounded"
    low, high = found["crossover"]["interval"]
    assert low < found["crossover"]["tokens"] < high
    (same,) = comparison_values(read_versions([str(tmp_path / "a"), str(write_copy(tmp_path))]))["changes"]
    assert same["difference"] is None


def write_copy(directory):
    return write_sweep(
        directory / "copy", lines=(LineSpec("cvfp", "1L_768d_1tok"),), seeds=(1, 2, 3), documents=40
    )
