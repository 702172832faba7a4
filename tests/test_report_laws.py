"""What a report says of the laws: their form, their curvature, and how their predictions fared."""

import math

import pytest
from report_helpers import DEFAULT_LINES, NGRAMS, write_sweep

from cvfp.records.sweep import RegisteredForecast, load_sweep, write_forecasts
from cvfp.report.conclusions import conclusions
from cvfp.report.figures.scaling import end_tokens
from cvfp.report.interactive.charts import scaling_chart
from cvfp.report.lines import report_lines
from cvfp.report.sections.forms import bend_table, form_table, fragile_texts, law_conclusions, local_table
from cvfp.report.sections.prediction import (
    calibration_table,
    calibration_text,
    forecast_table,
    registered,
)
from cvfp.report.sections.scaling import byte_law, held_text, law_answer, law_table
from cvfp.report.view import View
from cvfp.report.write import write_report
from cvfp.scaling.draws import fit_draws

pytestmark = pytest.mark.usefixtures("undrawn")

SEEDS = (1, 2, 3)
SIZES = (50, 100, 200, 400, 800)
ONE = DEFAULT_LINES[:1]


def following(loss):
    """A change that sets ln PPL to loss(ln tokens, seed)."""

    def change(run):
        ppl = math.exp(loss(math.log(run.point.train_tokens), run.point.seed))
        return run.model_copy(update={"point": run.point.model_copy(update={"val_ppl": ppl})})

    return change


def lines_of(directory, **settings):
    settings = {"lines": ONE, "sizes": SIZES, "seeds": SEEDS} | settings
    return report_lines(load_sweep(write_sweep(directory, **settings)))


def wobble(x: float, seed: int) -> float:
    """A draw lies a little higher or lower, and falls a little faster or slower, with some noise."""
    return 0.002 * (seed - 2) * (1 + 0.1 * x) + 0.0005 * math.sin(7.3 * x + seed)


STRAIGHT = following(lambda x, seed: 9.2 - 0.31 * x + wobble(x, seed))
CURVED = following(lambda x, seed: 20 - 2.0 * x + 0.06 * x * x + wobble(x, seed))
KNEED = following(lambda x, seed: 9.2 - 0.31 * x - 0.3 * max(x - math.log(200 * 1200), 0.0) + wobble(x, seed))
FLOORED = following(lambda x, seed: 2.0 + 40 * math.exp(-0.25 * x) + wobble(x, seed))


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in row.strip("| ").split(" | ")] for row in text.splitlines()[2:]]


def test_a_straight_line_is_called_straight_and_nothing_is_concluded(tmp_path):
    lines = lines_of(tmp_path, change=STRAIGHT)
    assert rows(bend_table(lines))[0][-1] == "straight within error"
    assert law_conclusions(lines) == []
    assert any(text.startswith("The forecast of ") for text in conclusions(load_sweep(tmp_path), lines))


def test_a_curved_line_is_a_conclusion_and_nothing_is_predicted_from_it(tmp_path):
    lines = lines_of(tmp_path, change=CURVED)
    (text,) = law_conclusions(lines)
    assert text.startswith("The power law of 1L_768d_1tok is curved (+0.060")
    assert ": with more data it flattens." in text
    assert text.endswith("No prediction is taken from its power law.")
    assert rows(bend_table(lines))[0][3:] == ["seeds", "curved: flattens"]
    assert not any("The forecast of" in text for text in conclusions(load_sweep(tmp_path), lines))


def test_a_curve_of_one_seed_is_one_over_sizes(tmp_path):
    (text,) = law_conclusions(lines_of(tmp_path, seeds=(1,), change=CURVED))
    assert "(+0.0601, 1 seed: 95% interval over sizes +0.0" in text


def test_the_form_that_predicts_left_out_sizes_best_is_preferred(tmp_path):
    lines = lines_of(tmp_path, change=FLOORED)
    forms = {row[1]: row for row in rows(form_table(lines))}
    power, floor = forms[r"PPL = A \* D^alpha"], forms[r"L = E + B \* D^-beta"]
    assert floor[2:4] == ["determined", "preferred"] and power[3] == "worse"
    assert floor[5].startswith("0.25") and floor[6].startswith(("2.0", "1.9"))
    (text,) = law_conclusions(lines)
    assert f"follows L = E + B \\* D^-beta better: {floor[4]} nats" in text and power[4] in text


def test_where_no_form_fits_nothing_is_said_beyond_the_data(tmp_path):
    """Neither in tables, nor in sentences, the figure or the chart; the law within the data stays."""
    lines = lines_of(tmp_path, change=KNEED)
    (line,) = lines
    assert line.law is not None and line.rejections and not line.extrapolates
    assert forecast_table(lines) == ""
    largest = max(point.train_tokens for point in line.fitted)
    assert end_tokens(line) == largest
    drawn = scaling_chart(lines).data
    assert all(x is None or x <= largest for trace in drawn for x in trace.x)
    assert [trace for trace in drawn if trace.fill == "toself" or trace.line.dash == "dot"] == []
    assert held_text(line).startswith("no: ") and f"| {held_text(line)} |" in law_table(lines)
    (answer,) = law_answer(View(load_sweep(tmp_path), lines, "demo"))
    assert answer == "**Does one power law hold?** Not for 1L_768d_1tok. No forecast is made."
    write_report(tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "No forecast of 1L_768d_1tok: no form of the law fits within error." in text
    assert line.forecasts == [] and "The forecast of" not in text


def test_a_form_that_fits_is_forecast_with_though_the_power_law_is_rejected(tmp_path):
    (line,) = lines_of(tmp_path, change=FLOORED)
    assert {"form", "fit"} <= set(line.rejections)
    assert [form.form for form in line.analysis.outlook.forms] == ["loss_floor"]
    last = line.forecasts[-1]
    true = math.exp(2.0 + 40 * math.exp(-0.25 * math.log(last.tokens)))
    assert last.low < true < last.high and float(line.law.predict(last.tokens)) < last.low


def test_a_law_that_nothing_speaks_against_is_forecast_everywhere(tmp_path):
    lines = lines_of(tmp_path, change=STRAIGHT)
    (line,) = lines
    assert line.rejections == () and held_text(line) == "nothing against it"
    last = line.forecasts[-1]
    told = f"{last.ppl:.1f} | {last.low:.1f} to {last.high:.1f} |"
    assert told in forecast_table(lines) and f"| {last.tokens:,.0f} | 10 | {told}" in forecast_table(lines)
    assert end_tokens(line) == 10 * max(point.train_tokens for point in line.fitted)
    (answer,) = law_answer(View(load_sweep(tmp_path), lines, "demo"))
    assert answer.endswith("Nothing speaks against it for 1L_768d_1tok.")


def test_sweeps_with_one_size_have_no_law_to_ask_for(tmp_path):
    lines = lines_of(tmp_path, sizes=(50,))
    assert law_answer(View(load_sweep(tmp_path), lines, "demo")) == []
    assert held_text(lines[0]) == "–" and forecast_table(lines) == ""


def test_what_is_not_determined_predicts_nothing(tmp_path):
    lines = lines_of(tmp_path, change=STRAIGHT, seeds=(1,), sizes=SIZES[:3])
    table = rows(form_table(lines))
    assert [row[2] for row in table if row[1].startswith("L = E")] == ["not determined"]
    assert lines[0].forecasts == []


def test_local_exponents_are_those_between_neighbours(tmp_path):
    lines = lines_of(tmp_path, change=CURVED)
    table = rows(local_table(lines))
    assert [row[1] for row in table] == ["50 to 100", "100 to 200", "200 to 400", "400 to 800"]
    middle = [math.log(1200 * size * math.sqrt(2)) for size in SIZES[:-1]]
    slopes = [-2.0 + 0.12 * x for x in middle]
    assert [float(row[2]) for row in table] == pytest.approx(slopes, abs=0.003)


def test_a_verdict_that_hangs_on_one_size_says_so(tmp_path):
    def bent_at_the_end(x, seed):
        return 9.2 - 0.31 * x + wobble(x, seed) + (0.2 if x > math.log(700 * 1200) else 0.0)

    lines = lines_of(tmp_path, change=following(bent_at_the_end))
    said = "curvature is 'curved', but 'straight within error' without size 800."
    assert f"1L_768d_1tok: {said}" in fragile_texts(lines)
    assert "Without some single size this is not so" in law_conclusions(lines)[0]


def test_backtests_hide_the_largest_size_and_the_two_largest(tmp_path):
    lines = lines_of(tmp_path, change=STRAIGHT)
    assert [found.hidden for found in lines[0].holdouts] == [(800,), (400, 800)]
    write_report(tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    one = lines[0].backtest
    shown = f"{one.predicted:.1f} ({one.low:.1f} to {one.high:.1f}) | {one.measured:.1f}, "
    assert f"| 1L_768d_1tok | 800 | PPL = A \\* D^alpha | {shown}" in text
    assert "| 1L_768d_1tok | 400, 800 | last local slope | " in text
    assert "Every prediction of a hidden size" in text
    assert "Every prediction of a hidden size" not in written(tmp_path / "two", sizes=(50, 100))


def written(directory, **settings) -> str:
    write_report(write_sweep(directory, lines=ONE, **settings))
    return (directory / "report.md").read_text(encoding="utf-8")


def promise(line, ppl: float, low: float, high: float | None, num_samples: int = 400, rule="ppl_power"):
    return RegisteredForecast(
        arm=line.arm,
        config_name=line.config_name,
        config_hash=line.summary.config_hash,
        rule=rule,
        num_samples=num_samples,
        tokens=1200.0 * num_samples,
        known_samples=(50, 100, 200),
        seeds=SEEDS,
        ppl=ppl,
        low=low,
        high=high,
        made="2026-11-24 12:00:00",
    )


def test_registered_forecasts_are_held_against_the_geometric_mean_of_their_size(tmp_path):
    (line,) = lines_of(tmp_path)
    sweep = load_sweep(tmp_path)
    ppls = [point.val_ppl for point in line.points if point.num_samples == 400]
    measured = math.exp(sum(map(math.log, ppls)) / len(ppls))
    right, wrong = promise(line, measured, 0.9 * measured, None), promise(line, 9.0, 8.0, 10.0)
    early = promise(line, 9.0, 8.0, 10.0, num_samples=1600, rule="last_slope")
    write_forecasts(sweep.files.forecasts, [right, wrong, early])
    found = registered(sweep, [line])
    bias = 100 * (math.sqrt(9.0 / measured) - 1)
    assert [one.held for one in found] == [True, False, None]
    assert found[0].measured == pytest.approx(measured)
    assert calibration_text(found) == (
        "Forecasts registered before their size ran, 95% intervals: "
        rf"PPL = A \* D^alpha: 1 of 2 intervals held, predicted PPL {bias:+.1f}% against measured."
    )
    table = rows(calibration_table(found))
    assert [row[-1] for row in table] == [f"{measured:.1f}, in it", f"{measured:.1f}, missed", "not run yet"]
    assert table[2][1:5] == ["1,600", "last local slope", "2026-11-24 12:00:00", "50, 100, 200"]
    write_report(tmp_path)
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert f"**{calibration_text(found)}**" in report


def test_a_sweep_without_forecasts_has_no_such_section(tmp_path):
    text = written(tmp_path)
    assert "Forecasts registered" not in text and "intervals held" not in text


def test_the_law_per_byte_is_that_of_nats_per_byte(tmp_path):
    lines = lines_of(tmp_path, lines=DEFAULT_LINES)
    for line in lines:
        points = line.fitted
        nats = [math.log(2) * point.bits_per_byte for point in points]
        law = fit_draws(
            [4 * point.train_tokens for point in points],
            [math.exp(value) for value in nats],
            [point.seed for point in points],
        )
        assert byte_law(line).alpha == pytest.approx(law.alpha) == pytest.approx(line.law.alpha / 4)

    def without_bytes(run):
        return run.model_copy(update={"point": run.point.model_copy(update={"train_bytes": None})})

    assert "nats per byte" not in written(tmp_path / "without", change=without_bytes)


def test_tuned_settings_are_told_beside_every_model(tmp_path):
    write_report(write_sweep(tmp_path, tuned={"cvfp": 12, "no-context": 7}))
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    scaling = text.split("\n## Scaling\n")[1].split("\n## ")[0]
    for arm, said in (("cvfp", "tuned, 12 trials"), ("no-context", "tuned, 7 trials")):
        assert any(row.startswith(f"| {arm} | {said} |") for row in scaling.splitlines())
    assert [row for row in scaling.splitlines() if row.startswith(f"| {NGRAMS[1]} | not tuned |")]
    answer = text.split("\n## Answer\n")[1].split("\n## ")[0]
    assert f"Not tuned, unlike the others: {NGRAMS[1]}." in answer
    assert "unlike the others" not in written(tmp_path / "none")
