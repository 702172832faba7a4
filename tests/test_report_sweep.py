"""Reading a sweep directory back: whole, partial, damaged, foreign."""

import pytest
from report_helpers import DEFAULT_LINES, write_sweep

from cvfp.records.errors import InputError
from cvfp.records.files import read_json, write_json
from cvfp.records.plan import Analysis
from cvfp.records.sweep import SweepFiles, load_sweep


def test_a_finished_sweep_loads_whole(tmp_path):
    sweep = load_sweep(write_sweep(tmp_path, analysis=Analysis(window_size=3)))
    assert (len(sweep.points), len(sweep.runs)) == (16, 16)
    assert sweep.missing() == ()
    assert sweep.run_of(sweep.points[0]).point == sweep.points[0]


def test_a_partial_sweep_loads_and_knows_what_is_missing(tmp_path):
    def until_200(run):
        return run if run.point.num_samples < 200 or run.point.arm != "cvfp" else None

    sweep = load_sweep(write_sweep(tmp_path, change=until_200))
    missing = [(point.config.arm, point.config.data.num_samples) for point in sweep.missing()]
    assert missing == [("cvfp", 200), ("cvfp", 400)]


def test_a_sweep_without_run_directories_loads(tmp_path):
    write_sweep(tmp_path)
    for path in SweepFiles(tmp_path).runs.glob("*/record.json"):
        path.unlink()
    sweep = load_sweep(tmp_path)
    assert sweep.runs == {}
    assert sweep.run_of(sweep.points[0]) is None


def test_no_directory_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such directory"):
        load_sweep(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["plan.json", "metadata.json", "detailed_results.json"])
def test_a_missing_file_is_named(tmp_path, name):
    (write_sweep(tmp_path) / name).unlink()
    with pytest.raises(InputError, match=f"{name}: no such file"):
        load_sweep(tmp_path)


def damaged(tmp_path, name, change):
    path = write_sweep(tmp_path) / name
    write_json(path, change(read_json(path)))
    with pytest.raises(InputError) as error:
        load_sweep(tmp_path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_row_of_another_schema_is_named(tmp_path):
    message = damaged(tmp_path, "detailed_results.json", lambda rows: [*rows[:2], {"tokens": 1}])
    assert "detailed_results.json, row 3: " in message


def test_a_file_of_the_wrong_kind_is_named(tmp_path):
    assert "a JSON list is needed, found dict" in damaged(tmp_path, "detailed_results.json", lambda _: {})


def test_metadata_of_another_kind_is_named(tmp_path):
    message = damaged(tmp_path, "metadata.json", lambda held: held | {"environment": {}})
    assert "metadata.json: unknown key 'environment'" in message
    message = damaged(tmp_path, "metadata.json", lambda held: held | {"wall_seconds": -1})
    assert "metadata.json: wall_seconds: " in message


def test_rows_of_another_sweep_are_refused(tmp_path):
    write_sweep(tmp_path / "one")
    write_sweep(tmp_path / "two", lines=DEFAULT_LINES[:1])
    foreign = read_json(tmp_path / "one" / "detailed_results.json")
    write_json(tmp_path / "two" / "detailed_results.json", foreign)
    with pytest.raises(InputError, match=r"kneser-ney 5gram at 50 samples, seed 42, is not in plan\.json"):
        load_sweep(tmp_path / "two")


def test_a_broken_run_record_is_named(tmp_path):
    path = next(SweepFiles(write_sweep(tmp_path)).runs.glob("*/record.json"))
    path.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"record\.json: not JSON at line 1"):
        load_sweep(tmp_path)
