"""The report of models in several sizes: the law of parameters and data together, and its isoFLOP curves."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
from report_helpers import DEFAULT_LINES, LineSpec, nine_lines, write_sweep

from cvfp.records.sweep import load_sweep
from cvfp.report.figures.isoflops import isoflop_figure
from cvfp.report.joint_laws import arm_laws
from cvfp.report.language import speaking
from cvfp.report.lines import report_lines
from cvfp.report.sections.parameters import section
from cvfp.report.view import View
from cvfp.scaling.joint_law import FLOPS

E, A, B = 1.8, 400.0, 300.0
WIDTHS = (128, 256, 512, 1024, 2048)
SIZES = (50, 100, 200, 400, 800, 1600)
TRUE = {"E": E, "a": 0.35, "b": 0.37}


def planted(run, noise=0.002):
    """The record with the PPL of a known law, at 5,000 parameters per unit of width."""
    point = run.point
    params, tokens = 5000 * point.context_dim, point.train_tokens
    error = noise * (zlib.crc32(f"{params} {tokens}".encode()) / 2**31 - 1)
    loss = (E + A / params**0.35 + B / tokens**0.37) * math.exp(error)
    changed = point.model_copy(update={"val_ppl": math.exp(loss), "total_params": params})
    return run.model_copy(update={"point": changed})


def view_of(tmp_path, lines=None, change=planted, sizes=SIZES):
    widths = tuple(LineSpec("cvfp", f"1L_{width}d_1tok", {"model.context_dim": width}) for width in WIDTHS)
    sweep = load_sweep(write_sweep(tmp_path, lines=lines or widths, sizes=sizes, change=change))
    return View(sweep, report_lines(sweep), "demo")


def test_a_planted_law_is_in_its_intervals(tmp_path):
    law = arm_laws(view_of(tmp_path).lines)[0]
    assert (law.arm, law.count, law.fit.status) == ("cvfp", "total_params", "converged")
    for name, value in TRUE.items():
        low, high = law.fit.intervals[name]
        assert low <= value <= high


def test_both_counts_are_shown(tmp_path):
    """Of the context block alone N is another, and so is its exponent."""
    found = section(view_of(tmp_path))
    rows = [row for row in found.blocks[0].splitlines() if row.startswith("| cvfp")]
    assert [row.split(" | ")[1:3] for row in rows] == [["all", "5 × 6"], ["context block alone", "5 × 6"]]
    assert rows[0].endswith("| yes |")


def test_models_that_differ_in_more_than_their_shape_are_no_sizes_of_one(tmp_path):
    lines = tuple(
        LineSpec("cvfp", f"c{width}", {"model.context_dim": width, "phase2.dropout": width / 10_000})
        for width in WIDTHS
    )
    assert arm_laws(view_of(tmp_path, lines).lines) == []
    assert section(view_of(tmp_path / "more", DEFAULT_LINES, change=lambda run: run)) is None


def test_ngrams_whose_parameters_grow_with_the_data_are_no_sizes_of_one(tmp_path):
    def growing(run):
        point = run.point.model_copy(update={"total_params": run.point.train_tokens})
        return run.model_copy(update={"point": point})

    lines = [one for one in nine_lines() if one.arm == "kneser-ney"]
    assert arm_laws(view_of(tmp_path, lines, growing).lines) == []


def test_a_law_that_cannot_be_told_gives_no_number_and_no_figure(tmp_path):
    """Without a floor in the truth: the reason stands there, in each language's words."""

    def floorless(run):
        point = run.point.model_copy(
            update={
                "total_params": 5000 * run.point.context_dim,
                "val_ppl": 1e4 * run.point.train_tokens**-0.3,
            }
        )
        return run.model_copy(update={"point": point})

    found = section(view_of(tmp_path, change=floorless))
    assert not list(found.pictures())
    assert "| no: " in found.blocks[0] and "95%" not in found.blocks[0]


def test_the_curves_are_the_law_at_equal_compute_within_what_was_measured(tmp_path):
    laws = arm_laws(view_of(tmp_path).lines)
    fit = laws[0].fit
    (axes,) = isoflop_figure({"cvfp": fit}).axes
    curves = [line for line in axes.lines if len(line.get_xdata()) > 2]
    assert len(curves) >= 4
    for curve in curves:
        params, ppl = (np.asarray(values, dtype=float) for values in curve.get_data())
        tokens = np.array(
            [
                # where the law has that PPL at so many parameters
                (fit.law.B / (math.log(one) - fit.law.E - fit.law.A / n**fit.law.a)) ** (1 / fit.law.b)
                for n, one in zip(params, ppl, strict=True)
            ]
        )
        compute = FLOPS * params * tokens
        assert compute == pytest.approx(np.full(len(compute), compute[0]), rel=1e-6)
        for values, measured in ((params, fit.cells.params), (tokens, fit.cells.tokens)):
            assert values.min() >= measured.min() * (1 - 1e-9)
            assert values.max() <= measured.max() * (1 + 1e-9)


def test_a_diamond_is_the_lowest_point_of_its_curve(tmp_path):
    fit = arm_laws(view_of(tmp_path).lines)[0].fit
    (axes,) = isoflop_figure({"cvfp": fit}).axes
    diamonds = [line for line in axes.lines if line.get_marker() == "D"]
    curves = [line for line in axes.lines if len(line.get_xdata()) > 2]
    assert diamonds
    lowest = [(curve.get_ydata().min(), curve) for curve in curves]
    for diamond in diamonds:
        ppl = float(diamond.get_ydata()[0])
        assert min(abs(ppl / low - 1) for low, _curve in lowest) < 1e-3


def test_every_point_and_the_names_of_budgets_are_drawn(tmp_path):
    fit = arm_laws(view_of(tmp_path).lines)[0].fit
    (axes,) = isoflop_figure({"cvfp": fit}).axes
    assert len(axes.collections[0].get_offsets()) == len(fit.cells.loss) == len(WIDTHS) * len(SIZES)
    curves = [line for line in axes.lines if len(line.get_xdata()) > 2]
    assert len(axes.texts) == len(curves)
    budgets = [float(text.get_text()) for text in axes.texts]
    assert budgets == sorted(budgets)


def test_a_report_in_another_language_fits_no_law_again(tmp_path, monkeypatch):
    view = view_of(tmp_path)
    assert section(view) is not None
    monkeypatch.setattr("cvfp.report.joint_laws.fit_joint_law", None)
    with speaking("ja"):
        assert section(view) is not None
