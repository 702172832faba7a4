"""Reading a sweep directory back: whole, partial, damaged, foreign; the run records are what counts."""

import shutil

import pytest
from lab_helpers import tiny_spec
from report_helpers import DEFAULT_LINES, write_sweep

from cvfp.cli.main import main
from cvfp.lab.plan import make_plan
from cvfp.lab.sweep_directory import sweep_status
from cvfp.records.config import LATER
from cvfp.records.errors import InputError
from cvfp.records.files import read_json, read_sealed, write_json, write_sealed
from cvfp.records.plan import Analysis
from cvfp.records.sweep import SweepFiles, load_sweep, read_plan

pytestmark = pytest.mark.usefixtures("undrawn")


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


@pytest.mark.parametrize("runs", ["absent", "empty"])
def test_rows_without_run_records_are_no_points(tmp_path, runs):
    files = SweepFiles(write_sweep(tmp_path))
    shutil.rmtree(files.runs)
    if runs == "empty":
        files.runs.mkdir()
    assert files.points.exists()
    assert load_sweep(tmp_path).points == ()
    assert len(load_sweep(tmp_path).missing()) == sweep_status(tmp_path).counts()["waiting"] == 16


def test_the_table_of_points_is_not_read(tmp_path):
    files = SweepFiles(write_sweep(tmp_path))
    points = load_sweep(tmp_path).points
    files.points.write_text("[]")
    assert load_sweep(tmp_path).points == points
    files.points.unlink()
    assert load_sweep(tmp_path).points == points


def test_report_and_status_agree_on_a_lost_record_and_on_a_foreign_folder(tmp_path, capsys):
    one = SweepFiles(write_sweep(tmp_path / "one"))
    files = SweepFiles(write_sweep(tmp_path / "two", lines=DEFAULT_LINES[:1]))
    lost = load_sweep(files.directory).plan.points[1].config.run_hash
    shutil.rmtree(files.runs / lost)
    foreign = load_sweep(one.directory).plan.points[-1].config.run_hash
    shutil.copytree(one.runs / foreign, files.runs / foreign)
    sweep = load_sweep(files.directory)
    assert [point.num_samples for point in sweep.points] == [50, 200, 400]
    assert sweep_status(files.directory).counts() == {
        "done": 3,
        "running": 0,
        "failed": 0,
        "diverged": 0,
        "waiting": 1,
    }
    assert main(["report", str(files.directory)]) == 0
    text = files.report.read_text(encoding="utf-8")
    assert "3 of 4 planned runs are done, 0 failed, 1 without a record." in text
    assert "- cvfp 1L_768d_1tok: no record yet of 100 documents, seed 42\n" in text


def a_record(files):
    return next(files.runs.glob("*/record.json"))


def refusal(directory):
    """What loading and status say, which is the same one line."""
    lines = []
    for read in (load_sweep, sweep_status):
        with pytest.raises(InputError) as error:
            read(directory)
        lines.append(str(error.value))
    assert lines[0] == lines[1] and "\n" not in lines[0]
    return lines[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run_hash", "0123456789ab"),
        ("arm", "unigram"),
        ("config_name", "other"),
        ("config_hash", "0123456789ab"),
        ("num_samples", 51),
        ("seed", 43),
    ],
)
def test_the_record_of_another_run_is_refused(tmp_path, field, value):
    path = a_record(SweepFiles(write_sweep(tmp_path)))
    record = read_sealed(path)
    (record if field == "run_hash" else record["point"])[field] = value
    write_sealed(path, record)
    message = refusal(tmp_path)
    assert message.startswith(f"{path}: is the record of another run: ")
    assert f"{field} is {value!r}, the plan has " in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"val_ppl": 0.5}, "point.val_ppl: input should be greater than or equal to 1, got 0.5"),
        ({"val_ppl": -5.0}, "point.val_ppl: input should be greater than or equal to 1, got -5.0"),
        ({"val_acc": 7.0}, "point.val_acc: input should be less than or equal to 1, got 7.0"),
        ({"val_er": 3.0}, "point.val_er: input should be less than or equal to 1, got 3.0"),
        ({"wall_seconds": -3.0}, "point.wall_seconds: input should be greater than or equal to 0, got -3.0"),
        ({"phase1_iter": -1}, "point.phase1_iter: input should be greater than or equal to 1, got -1"),
        ({"train_tokens": 0}, "point.train_tokens: input should be greater than or equal to 1, got 0"),
        ({"num_samples": -50}, "point.num_samples: input should be greater than or equal to 1, got -50"),
        ({"total_params": -1}, "point.total_params: input should be greater than or equal to 0, got -1"),
        ({"val_ppl": None}, "point: val_ppl: a run that is done needs a number, got None"),
        ({"train_tokens": None}, "point: train_tokens: a run that is done needs a number, got None"),
        (
            {"stop_reason": "bored"},
            "stop_reason: input should be 'dev_minimum', 'cap', 'fixed_steps', 'closed_form' or",
        ),
    ],
)
def test_a_value_out_of_its_range_is_refused(tmp_path, changes, words):
    path = a_record(SweepFiles(write_sweep(tmp_path)))
    record = read_sealed(path)
    record["point"] |= changes
    write_sealed(path, record)
    message = refusal(tmp_path)
    assert message.startswith(f"{path}: ") and words in message


def test_a_failed_point_needs_no_result(tmp_path):
    path = a_record(SweepFiles(write_sweep(tmp_path)))
    record = read_sealed(path)
    record["point"] |= {"status": "failed", "val_ppl": None, "train_tokens": None}
    write_sealed(path, record)
    assert sweep_status(tmp_path).counts()["failed"] == 1
    assert [point.status for point in load_sweep(tmp_path).points].count("failed") == 1


def test_status_shows_a_done_point_of_which_little_was_measured(tmp_path):
    path = a_record(SweepFiles(write_sweep(tmp_path)))
    record = read_sealed(path)
    names = ("dev_ppl", "val_acc", "bits_per_byte", "val_er", "phase1_iter", "stop_reason", "wall_seconds")
    record["point"] |= dict.fromkeys(names)
    write_sealed(path, record)
    shown = f"test PPL {record['point']['val_ppl']:.1f}"
    assert shown in [point.detail for point in sweep_status(tmp_path).points]


def test_a_broken_run_record_is_named(tmp_path):
    path = a_record(SweepFiles(write_sweep(tmp_path)))
    path.write_text("{", encoding="utf-8")
    assert f"{path}: not JSON at line 1" in refusal(tmp_path)


def test_a_record_that_somebody_has_edited_is_no_result(tmp_path):
    path = a_record(SweepFiles(write_sweep(tmp_path)))
    record = read_json(path)
    record["point"]["val_ppl"] += 0.01
    write_json(path, record)
    assert refusal(tmp_path).startswith(f"{path}: was changed after it was written")
    del record["digest"]
    write_json(path, record)
    assert refusal(tmp_path).startswith(f"{path}: has no digest")


def test_where_there_is_no_sweep_every_command_says_so_alike(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name, words in (
        ("nowhere", "no such directory; a sweep directory is needed"),
        ("file", "is a file; a sweep directory is needed"),
        ("empty", "no sweep here (there is no plan.json)"),
    ):
        for command in (["report"], ["status"], ["compare", "published:v1"]):
            assert main([*command, str(tmp_path / name)]) == 2
            assert capsys.readouterr().err == f"cvfp: error: {tmp_path / name}: {words}\n"


def test_missing_metadata_are_named(tmp_path):
    (write_sweep(tmp_path) / "metadata.json").unlink()
    with pytest.raises(InputError, match=r"metadata\.json: no such file"):
        load_sweep(tmp_path)


def damaged(tmp_path, name, change):
    path = write_sweep(tmp_path) / name
    write_json(path, change(read_json(path)))
    with pytest.raises(InputError) as error:
        load_sweep(tmp_path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_metadata_of_another_kind_is_named(tmp_path):
    message = damaged(tmp_path, "metadata.json", lambda held: held | {"environment": {}})
    assert "metadata.json: unknown key 'environment'" in message
    message = damaged(tmp_path, "metadata.json", lambda held: held | {"wall_seconds": -1})
    assert "metadata.json: wall_seconds: " in message


def test_a_plan_of_another_kind_is_named(tmp_path):
    message = damaged(tmp_path, "plan.json", lambda _: [])
    assert message.endswith("plan.json: input should be an object, got []")
    message = damaged(tmp_path, "plan.json", lambda plan: {"points": plan["points"]})
    assert message.endswith("plan.json: name, description: required, but missing")
    message = damaged(tmp_path, "plan.json", lambda plan: [plan] * 100)
    assert message.endswith("...") and len(message) < len(str(tmp_path)) + 140


@pytest.mark.parametrize("arm", ["cvfp", "cvfp-joint", "lstm", "transformer"])
def test_a_plan_of_before_a_field_joined_is_read_as_it_was_run(tmp_path, corpus, arm):
    plan = make_plan(tiny_spec(corpus, arms=(arm,), samples=(4,)).with_settings({"transformer.head_dim": 4}))
    written = plan.model_dump(mode="json")
    config = written["points"][0]["config"]
    for section, fields in LATER.items():
        for field in fields:
            config[section].pop(field, None)
    write_json(tmp_path / "plan.json", written)
    found = read_plan(tmp_path).points[0].config
    for section, fields in LATER.items():
        for field, before in fields.items():
            assert getattr(getattr(found, section), field) == before, (section, field)
