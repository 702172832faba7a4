"""Bad input, records: whatever is in a sweep directory, the answer is a value or one line of the contract."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fuzz_helpers import damaged_json, judged, refused, tried, written
from hypothesis import given
from hypothesis import strategies as st
from report_helpers import DEFAULT_LINES, write_sweep

from cvfp.lab.plan import SweepSpec, make_plan
from cvfp.lab.sweep_directory import SweepDirectory
from cvfp.records.errors import CvfpError, InputError, one_line
from cvfp.records.files import DEEPEST, check_out, read_json, read_text
from cvfp.records.plan import TUNING, Analysis, read_tuning
from cvfp.records.results import DocumentScores, PointRecord, RunRecord, read_metrics
from cvfp.records.sweep import Sweep, SweepFiles, load_sweep, read_forecasts
from cvfp.report.figures.analysis import analysis_figure
from cvfp.report.lines import report_lines
from cvfp.report.view import View
from cvfp.report.write import render_report

FORECAST = {
    "forecast": {
        "arm": "cvfp",
        "config_name": "1L",
        "config_hash": "abc",
        "rule": "ppl_power",
        "num_samples": 8,
        "tokens": 100.0,
        "known_samples": [2, 4],
        "seeds": [1],
        "ppl": 20.0,
        "low": 10.0,
        "high": None,
        "made": "2026-11-24",
    },
    "digest": "no",
}
MEASUREMENT = {"phase": "phase2", "step": 3, "seconds": 1.5, "dev_ppl": 30.0, "lr": 1e-3}
ARM = {"trials": 4, "settings": {"lstm.lr": 1e-3}, "dev_ppl": [20.0], "untuned_dev_ppl": None}
TUNED = {"preset": "v3", "samples": [50], "seeds": 1, "arms": {"lstm": ARM}}
IMPOSSIBLE = [Path("a\0b"), Path("x" * 5000), Path("\ud800"), Path("x" * 300 + "/y")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bad")


@given(st.data())
@tried(150)
def test_any_bytes_are_json_or_refused(folder, data):
    path = written(folder, "any.json", data.draw(damaged_json(FORECAST)))
    judged(lambda: read_json(path), "any.json")


@given(st.data())
@tried(100)
def test_forecasts_of_any_bytes(folder, data):
    path = written(folder, "forecasts.json", data.draw(damaged_json([FORECAST])))
    judged(lambda: read_forecasts(path), "forecasts.json")


@given(st.data())
@tried(100)
def test_a_tuning_of_any_bytes(folder, data):
    written(folder, TUNING, data.draw(damaged_json(TUNED)))
    judged(lambda: read_tuning(folder), TUNING)


@given(st.data())
@tried(100)
def test_metrics_of_any_bytes(folder, data):
    good = json.dumps(MEASUREMENT).encode()
    path = written(folder, "metrics.jsonl", good + b"\n" + data.draw(damaged_json(MEASUREMENT)) + b"\n")
    judged(lambda: read_metrics(path), "metrics.jsonl")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, str]:
    """The files of a sweep, with what is in them."""
    written_to = tmp_path_factory.mktemp("sweep")
    analysis = Analysis(window_size=2)
    files = SweepFiles(write_sweep(written_to, DEFAULT_LINES[:2], (50, 100, 200), (1, 2), analysis=analysis))
    run = next(files.runs.iterdir())
    (run / "metrics.jsonl").write_text(json.dumps(MEASUREMENT) + "\n")
    paths = (files.plan, files.metadata, run / "record.json", run / "metrics.jsonl")
    return {path: path.read_text() for path in paths}


@given(st.data())
@tried(60)
def test_a_sweep_with_a_damaged_file_has_a_report_or_is_refused(sweep, data):
    path = data.draw(st.sampled_from(list(sweep)))
    content = data.draw(damaged_json(json.loads(sweep[path])))
    directory = next(iter(sweep)).parent
    try:
        path.write_bytes(content + b"\n" * (path.suffix == ".jsonl"))
        loaded = judged(lambda: load_sweep(directory), str(directory))
        if isinstance(loaded, Sweep):
            judged(lambda: render_report(View(loaded, report_lines(loaded), "demo"), None))
            judged(lambda: [loaded.metrics_of(point) for point in loaded.points], str(directory))
    finally:
        path.write_text(sweep[path])


@pytest.mark.parametrize("metadata", ["[]", "{", '{"busy": 3}', '{"datasets": []}', '{"busy": [["a", "b"]]}'])
def test_a_sweep_is_not_resumed_over_damaged_metadata(tmp_path, metadata):
    plan = make_plan(SweepSpec(name="x", samples=(4,)))
    written(tmp_path, "metadata.json", metadata)
    refused(lambda: SweepDirectory(tmp_path, plan).add_busy(1.0, 2.0), "metadata.json")


@pytest.mark.parametrize("path", IMPOSSIBLE, ids=range(len(IMPOSSIBLE)))
def test_a_path_that_can_be_none_is_refused_by_every_reader(path):
    for read in (read_text, check_out, load_sweep, read_tuning):
        refused(lambda read=read: read(path))
    assert read_metrics(path) == () and read_forecasts(path) == []


def test_numbers_of_thousands_of_digits_and_deep_nests_are_refused(folder):
    assert "too many digits" in refused(lambda: read_json(written(folder, "a.json", "9" * 5000)), "a.json")
    for depth in (DEEPEST + 1, 990, 100_000):
        path = written(folder, "b.json", "[" * depth + "]" * depth)
        assert "nested too deeply" in refused(lambda path=path: read_json(path), "b.json")
    deepest = "[" * DEEPEST + "]" * DEEPEST
    assert read_json(written(folder, "c.json", deepest)) == json.loads(deepest)


def test_a_message_is_one_line_and_steers_no_terminal():
    assert str(CvfpError("a\nb\u2028c\x1b[2Jd\ud800é　")) == "a\\nb\\u2028c\\x1b[2Jd\\ud800é　"
    assert len(one_line("".join(map(chr, range(0x3000)))).splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_tokens": 10**30}, "train_tokens"),
        ({"bits_per_byte": 1e308}, "bits_per_byte"),
    ],
)
def test_a_row_that_no_fit_or_figure_can_take_is_refused(changes, said):
    row = {"arm": "cvfp", "config_name": "1L", "config_hash": "a", "status": "done", "num_samples": 5}
    row |= {"seed": 1, "train_tokens": 100, "val_ppl": 20.0}
    assert PointRecord.parse_json(row, "row").val_ppl == 20.0
    assert said in refused(lambda: PointRecord.parse_json(row | changes, "row"), "row")


def test_a_line_without_a_width_has_a_figure(tmp_path):
    """Its parameters are told, its width is not."""

    def change(run: RunRecord) -> RunRecord:
        return run.model_copy(update={"point": run.point.model_copy(update={"context_dim": None})})

    directory = write_sweep(tmp_path, DEFAULT_LINES, change=change)
    assert analysis_figure(report_lines(load_sweep(directory))) is None


def test_every_test_document_has_a_loss():
    with pytest.raises(InputError, match="nats: 1 values for 2"):
        DocumentScores.parse({"tokens": (3, 4), "nats": (1.0,)}, "record")
