"""The curves of phase 1 and of learning tokens, their figures, and that of compute."""

from __future__ import annotations

import numpy as np
import pytest
from figure_helpers import (
    RESULTS,
    assert_readable,
    changed_point,
    drawn_sweep,
    four_arms,
    legend_names,
    read,
    texts_of,
    titled,
    xy,
)
from marks import one_quick
from report_helpers import DEFAULT_LINES, LineSpec, every_arm, write_sweep

from cvfp.records.errors import InputError
from cvfp.report.figures.curves import curves_by_size, largest_curve, learning_curve, phase1_curve
from cvfp.report.figures.marks import by_size
from cvfp.report.figures.phase1 import phase1_figure
from cvfp.report.figures.training import compute_figure, learning_figure

WIDTHS = [LineSpec("cvfp", f"1L_{width}d_1tok", {"model.context_dim": width}) for width in (768, 1200)]


def metrics_file(sweep, point):
    return sweep.files.run_metrics(sweep.run_of(point).run_hash)


def test_curves_hold_what_the_run_told(tmp_path):
    sweep, lines = drawn_sweep(tmp_path, DEFAULT_LINES)
    point = lines[0].points[-1]
    first, second = phase1_curve(sweep, point), learning_curve(sweep, point)
    assert list(first.iterations) == list(range(2, 24)) and first.converged is True
    assert first.convergence_loss[0] == pytest.approx(np.exp(-0.6))
    assert list(second.steps) == list(range(50, 501, 50))
    assert second.steps[second.best] == 300 and second.dev_ppl[second.best] == point.dev_ppl
    assert list(second.lr) == [3e-4] * 10


def test_tokens_seen_are_those_of_the_run_at_its_last_step(tmp_path):
    sweep, lines = drawn_sweep(tmp_path, DEFAULT_LINES, change=lambda run: changed_point(run, steps=500))
    point = lines[0].points[0]
    curve = learning_curve(sweep, point)
    assert curve.tokens_seen[-1] == pytest.approx(point.tokens_seen)
    assert curve.epochs[-1] == pytest.approx(point.tokens_seen / point.train_tokens)


def test_arms_without_a_phase_have_no_curve_of_it(tmp_path):
    sweep, lines = drawn_sweep(tmp_path, DEFAULT_LINES)
    ngram, without = (line.points[0] for line in lines[1:3])
    assert phase1_curve(sweep, ngram) is None and learning_curve(sweep, ngram) is None
    assert phase1_curve(sweep, without) is None and learning_curve(sweep, without) is not None


def test_missing_numbers_are_nan_and_lines_without_any_are_left_out(tmp_path):
    sweep, lines = drawn_sweep(tmp_path, DEFAULT_LINES)
    point = lines[0].points[0]
    text = '{"phase": "phase 2", "step": 50, "dev_ppl": null}\n{"phase": "phase 2", "step": 60}\n'
    text += '{"phase": "phase 2", "step": 100, "dev_ppl": 90, "train_ppl": "?"}\n'
    metrics_file(sweep, point).write_text(text)
    curve = learning_curve(sweep, point)
    assert list(curve.steps) == [50, 100] and curve.best == 1
    assert np.isnan(curve.dev_ppl[0]) and np.isnan(curve.train_ppl).all()


def test_a_damaged_file_is_an_error(tmp_path):
    sweep, lines = drawn_sweep(tmp_path, DEFAULT_LINES)
    metrics_file(sweep, lines[0].points[-1]).write_text("nonsense\n")
    with pytest.raises(InputError, match="line 1"):
        phase1_figure(sweep, lines)


def test_the_largest_size_is_shown_of_the_first_seed_that_has_a_curve(tmp_path):
    sweep, lines = drawn_sweep(tmp_path, DEFAULT_LINES, seeds=(42, 43))
    shown = largest_curve(sweep, lines[0], phase1_curve)
    assert (shown.point.num_samples, shown.point.seed) == (400, 42)
    metrics_file(sweep, shown.point).unlink()
    again = largest_curve(sweep, lines[0], phase1_curve)
    assert (again.point.num_samples, again.point.seed) == (400, 43)
    metrics_file(sweep, again.point).unlink()
    assert largest_curve(sweep, lines[0], phase1_curve).point.num_samples == 200
    assert [curve.point.num_samples for curve in curves_by_size(sweep, lines[0], phase1_curve)] == [
        50,
        100,
        200,
    ]


@pytest.mark.parametrize("configs", one_quick(9, 1, 3))
@pytest.mark.parametrize("draw", [phase1_figure, learning_figure])
def test_no_labels_touch_in_figures_of_training(tmp_path, configs, draw):
    assert_readable(draw(*drawn_sweep(tmp_path, four_arms(configs))))


@pytest.mark.parametrize("version", one_quick("v3", "v1", "v2"))
@pytest.mark.parametrize("draw", [phase1_figure, learning_figure])
def test_no_labels_touch_in_figures_of_training_of_real_sweeps(version, draw):
    assert_readable(draw(*read(RESULTS / version)))


def test_one_line_is_shown_by_size_and_several_by_line(tmp_path):
    one = drawn_sweep(tmp_path / "one", WIDTHS[:1], seeds=(42, 43))
    two = drawn_sweep(tmp_path / "two", WIDTHS, seeds=(42, 43))
    sizes = [f"{size} documents" for size in (50, 100, 200, 400)]
    assert legend_names(phase1_figure(*one)) == [*sizes, "stops at 0.99"]
    assert legend_names(phase1_figure(*two)) == ["1L_768d_1tok", "1L_1200d_1tok", "stops at 0.99"]
    titles = [phase1_figure(*drawn).get_suptitle() for drawn in (one, two)]
    assert titles == ["1L_768d_1tok, 50 to 400 documents, seed 42", "400 documents, seed 42"]


def test_lines_that_reached_other_sizes_say_so(tmp_path):
    def short(run):
        return None if run.point.config_name == "1L_768d_1tok" and run.point.num_samples > 100 else run

    sweep, lines = drawn_sweep(tmp_path, WIDTHS, change=short)
    names = legend_names(phase1_figure(sweep, lines))
    assert names[:2] == ["1L_768d_1tok, 100 documents", "1L_1200d_1tok, 400 documents"]
    assert phase1_figure(sweep, lines).get_suptitle() == "100 to 400 documents, seed 42"
    (axes,) = learning_figure(sweep, lines).axes
    assert axes.get_title(loc="left") == "Dev PPL while learning, largest size of each"


def test_the_threshold_is_that_of_the_config(tmp_path):
    lines = [LineSpec("cvfp", "1L_768d_1tok", {"phase1.convergence_rate": 0.9})]
    figure = phase1_figure(*drawn_sweep(tmp_path, lines))
    (dotted,) = [one for one in titled(figure, "convergence rate").lines if one.get_linestyle() == ":"]
    assert set(dotted.get_ydata()) == {0.9}
    assert legend_names(figure)[-1] == "stops at 0.9"


def test_runs_that_ended_at_their_cap_end_hollow(tmp_path):
    def censored(run):
        return run.model_copy(update={"phase1_converged": run.point.config_name != "1L_768d_1tok"})

    figure = phase1_figure(*drawn_sweep(tmp_path, WIDTHS, change=censored))
    capped, converged = titled(figure, "convergence loss").lines
    assert capped.get_markerfacecolor() == "white" != converged.get_markerfacecolor()
    assert capped.get_markevery() == [21]
    assert legend_names(figure)[-1] == "ended at its cap"


def drawn_curves(figure):
    """What the only panel joins, without what leads names to their lines."""
    (axes,) = figure.axes
    return [drawn for drawn in axes.lines if len(drawn.get_xdata()) > 1]


def test_learning_shows_dev_ppl_by_tokens_seen_with_the_kept_evaluation_marked(tmp_path):
    sweep, lines = drawn_sweep(tmp_path, DEFAULT_LINES, seeds=(42, 43))
    figure = learning_figure(sweep, lines)
    drawn = drawn_curves(figure)
    shown = [line for line in lines if line.arm != "kneser-ney"]
    assert len(drawn) == len(shown) == 3
    for one, line in zip(drawn, shown, strict=True):
        (point,) = [p for p in line.points if (p.num_samples, p.seed) == (400, 42)]
        seen = [step * point.tokens_seen / point.steps for step in range(50, 501, 50)]
        dev = [point.dev_ppl * (1 + ((step - 300) / 300) ** 2) for step in range(50, 501, 50)]
        assert xy(one) == [pytest.approx(place) for place in zip(seen, dev, strict=True)]
        assert one.get_markevery() == [5] and dev[5] == min(dev)
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "Dev PPL while learning, 400 documents"
    assert {"cvfp", "no-context", "random-context"} <= {text.get_text() for text in texts_of(figure)}


def test_arms_trained_through_time_are_among_the_curves(tmp_path):
    figure = learning_figure(*drawn_sweep(tmp_path, every_arm()))
    named = {text.get_text() for text in texts_of(figure)}
    assert {"cvfp", "cvfp-joint", "random-context", "no-context", "lstm", "transformer"} <= named
    assert not {"kneser-ney", "unigram", "mixture"} & named
    assert len(drawn_curves(figure)) == 6
    assert_readable(figure)


def test_unfinished_failed_and_unkept_runs_are_left_out(tmp_path):
    def partial(run):
        if run.point.num_samples == 400:
            return None
        return changed_point(run, status="failed", val_ppl=None) if run.point.num_samples == 200 else run

    sweep, lines = drawn_sweep(tmp_path, DEFAULT_LINES, change=partial)
    assert len(drawn_curves(learning_figure(sweep, lines))) == 3
    for line in lines[2:]:
        for point in line.points:
            metrics_file(sweep, point).unlink()
    figure = learning_figure(sweep, lines)
    assert len(drawn_curves(figure)) == 1
    assert figure.axes[0].get_title(loc="left") == "Dev PPL while learning, 100 documents"


def test_nothing_told_draws_nothing(tmp_path):
    sweep, lines = drawn_sweep(tmp_path, DEFAULT_LINES)
    for path in tmp_path.glob("runs/*/metrics.jsonl"):
        path.write_text("")
    assert phase1_figure(sweep, lines) is None
    assert learning_figure(sweep, lines) is None


def counting_flops(run):
    """Twelve FLOPs per parameter and token seen; the mixture is known not to tell."""
    tokens = run.point.tokens_seen or run.point.train_tokens
    flops = None if run.point.arm == "kneser-ney" else 12.0 * run.point.total_params * tokens * run.point.seed
    return changed_point(run, flops=flops)


def test_compute_shows_test_ppl_by_flops_seeds_light_and_means_joined(tmp_path):
    _sweep, lines = drawn_sweep(tmp_path, DEFAULT_LINES, seeds=(42, 43), change=counting_flops)
    figure = compute_figure(lines)
    shown = [xy(drawn) for drawn in figure.axes[0].lines]
    for line in lines:
        seeds = [(p.flops, p.val_ppl) for p in line.points]
        assert (seeds in shown) == (line.arm != "kneser-ney")
        if line.arm != "kneser-ney":
            means = [
                (np.mean([p.flops for p in at]), np.exp(np.mean(np.log([p.val_ppl for p in at]))))
                for at in by_size(line.points).values()
            ]
            assert [pytest.approx(place) for place in means] in shown
    assert "kneser-ney" not in {text.get_text() for text in texts_of(figure)}
    assert_readable(figure)


def test_without_flops_or_with_one_size_there_is_no_figure_of_compute(tmp_path):
    def unknown(run):
        return changed_point(run, flops=None)

    assert compute_figure(read(write_sweep(tmp_path / "a", change=unknown))[1]) is None
    assert compute_figure(read(write_sweep(tmp_path / "b", sizes=(50,)))[1]) is None
