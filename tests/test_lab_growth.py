"""Sizes that grow by a factor, in presets, TOML files and on the command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvfp.cli.main import main
from cvfp.lab.plan import Growth
from cvfp.lab.presets import PRESETS, find_spec
from cvfp.records.errors import InputError

pytestmark = pytest.mark.usefixtures("undrawn")


def test_the_sizes_of_the_source_report_and_of_its_next_steps():
    two = Growth(start=50, multiplier=2, window_size=4, num_windows=2)
    three = Growth(start=50, multiplier=2, window_size=4, num_windows=3)
    assert two.sizes == PRESETS["v3"].samples == (50, 100, 200, 400, 800)
    assert three.sizes == PRESETS["next"].samples == (50, 100, 200, 400, 800, 1600)
    assert PRESETS["v3"].analysis.window_size == PRESETS["next"].analysis.window_size == 4


@given(
    start=st.integers(1, 500),
    multiplier=st.floats(1.5, 4),
    window_size=st.integers(2, 5),
    num_windows=st.integers(1, 4),
)
def test_there_are_as_many_windows_as_asked_for(start, multiplier, window_size, num_windows):
    try:
        growth = Growth(start=start, multiplier=multiplier, window_size=window_size, num_windows=num_windows)
    except ValueError as error:
        assert "same size twice" in str(error) and start * (multiplier - 1) < 1.5
        return
    assert growth.sizes[0] == start
    assert list(growth.sizes) == sorted(set(growth.sizes))
    assert len(growth.sizes) - window_size + 1 == num_windows


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"multiplier": 1.0}, "greater than 1"),
        ({"multiplier": 1.001}, "same size twice"),
        ({"multiplier": 1e300}, "pass 1000000000"),
        ({"start": 0}, "greater than or equal to 1"),
        ({"window_size": 1}, "greater than or equal to 2"),
        ({"num_windows": 0}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_a_grid_is_refused(fields, message):
    good = {"start": 50, "multiplier": 2.0, "window_size": 4, "num_windows": 2}
    with pytest.raises(InputError, match=message):
        Growth.parse(good | fields, "--growth")


def test_a_file_may_name_growth_in_place_of_samples(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('preset = "v1"\n[growth]\nstart = 10\nmultiplier = 3\nwindow_size = 3\nnum_windows = 2\n')
    spec = find_spec(str(path))
    assert (spec.samples, spec.analysis.window_size) == ((10, 30, 90, 270), 3)


def test_a_file_with_both_is_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("samples = [1, 2]\n[growth]\nstart = 10\nmultiplier = 3\nwindow_size = 3\n")
    with pytest.raises(InputError, match="samples and growth both give the sizes"):
        find_spec(str(path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--growth", "start=5", "--samples", "5"], "--samples and --growth both give the sizes"),
        (["--growth"], "--growth: start, multiplier, window_size: required, but missing"),
        (["--growth", "start=5"], "--growth: multiplier, window_size: required, but missing"),
        (
            ["--growth", "start=0", "rate=2"],
            "--growth: start: input should be greater than or equal to 1, got 0; "
            "multiplier, window_size: required, but missing (and 1 more)",
        ),
        (["--growth", "start=25", "start=26"], "--growth: start is given twice"),
        (["--growth", "start"], "--growth 'start': write KEY=VALUE"),
        (["--growth", "start=5", "multiplier=2", "window_size=2", "rate=2"], "--growth: unknown key 'rate'"),
    ],
)
def test_bad_growth_on_the_command_line_gets_one_line(arguments, message, capsys):
    assert main(["run", "v3", *arguments]) == 2
    assert message in capsys.readouterr().err
