"""Initialisations count as one result of their draw: everywhere they are averaged within it first."""

import csv
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from report_helpers import LineSpec, one_point
from scaling_helpers import run_of

from cvfp.records.plan import Analysis
from cvfp.records.results import PointRecord
from cvfp.scaling.documents import exponent, log_ppl_at, losses_of, paired_losses
from cvfp.scaling.draws import fit_draws
from cvfp.scaling.points import cells, field_change, law_of_ratio, mean_over, paired, ppl_change
from cvfp.scaling.summary import fit_lines, line_points, progressions
from cvfp.scaling.table import fit_table

SIZES, DRAWS, INITS = (50, 100, 200, 400), (1, 2, 3), 2


def nested(stream: int) -> list[PointRecord]:
    """Two initialisations of each of three draws, in the order of a sweep."""
    rng = np.random.default_rng(stream)
    spec, points = LineSpec("cvfp", "a"), []
    for size, draw, init in product(SIZES, DRAWS, range(INITS)):
        point = one_point(spec, spec.config(size, draw + 3 * init, "chitchat"), rng.normal(0, 0.05))
        drawn = {
            "draw_seed": draw if init else None,
            "train_tokens": 1000 * size + draw,
            "val_er": rng.random(),
        }
        points.append(point.model_copy(update=drawn))
    return points


def merged(points: list[PointRecord]) -> list[PointRecord]:
    """What a sweep of one initialisation per draw would hold, had it the means as its results."""
    pairs = zip(points[::INITS], points[1::INITS], strict=True)
    return [
        a.model_copy(
            update={"val_ppl": math.sqrt(a.val_ppl * b.val_ppl), "val_er": (a.val_er + b.val_er) / 2}
        )
        for a, b in pairs
    ]


def test_a_cell_is_the_runs_of_one_size_and_draw():
    points = nested(0)
    found = cells(points)
    assert [(cell.num_samples, cell.draw) for cell in found] == list(product(SIZES, DRAWS))
    assert found[0].runs == tuple(points[:2])
    assert [cell.val_ppl for cell in found] == pytest.approx([p.val_ppl for p in merged(points)])
    assert mean_over(found, "val_er") == pytest.approx(np.mean([point.val_er for point in points]))
    assert mean_over(found[:1], "best_epoch") == 4.5
    assert mean_over(cells([points[0], points[1].model_copy(update={"val_er": None})]), "val_er") is None


def test_a_law_of_several_initialisations_is_that_of_their_means():
    points = nested(0)
    (fit,) = fit_lines(points, Analysis())
    (expected,) = fit_lines(merged(points), Analysis())
    assert fit.law.alpha == pytest.approx(expected.law.alpha)
    assert fit.law.alpha_ci95 == pytest.approx(expected.law.alpha_ci95)
    assert list(fit.law.laws) == list(DRAWS)
    assert len(fit.fitted) == 24 and fit.law.n == 12
    windows, plain = (progressions(fit_lines(each, Analysis()), 3)[0] for each in (points, merged(points)))
    assert windows.alpha_change_ci95 == pytest.approx(plain.alpha_change_ci95)


def test_a_result_of_one_initialisation_stays_what_it_is():
    points = [point for point in nested(0) if point.draw_seed is None]
    assert line_points(points).ppl.tolist() == [point.val_ppl for point in points]


def test_pairs_share_the_draw_whatever_the_seeds_of_their_initialisations():
    first, second = (
        nested(1),
        [p.model_copy(update={"seed": p.seed + 90, "draw_seed": p.draw}) for p in nested(2)],
    )
    pairs, expected = paired(first, second), paired(merged(first), merged(nested(2)))
    assert [(a.num_samples, a.draw, b.draw) for a, b in pairs] == [
        (s, d, d) for s, d in product(SIZES, DRAWS)
    ]
    last = [pair for pair in pairs if pair[0].num_samples == 400]
    assert ppl_change(last).pairs == 3
    assert ppl_change(last).interval == pytest.approx(ppl_change(expected[-3:]).interval)
    assert field_change(last, "val_er").interval == pytest.approx(
        field_change(expected[-3:], "val_er").interval
    )
    assert law_of_ratio(pairs).alpha_ci95 == pytest.approx(law_of_ratio(expected).alpha_ci95)


def test_losses_are_averaged_within_a_draw_and_paired_by_it():
    rng, lengths = np.random.default_rng(3), np.full(6, 20)
    runs = [
        [
            run_of(size, draw + 3 * init, 1000 * size + draw, lengths, rng.uniform(80, 120, 6), draw)
            for size, draw, init in product(SIZES, DRAWS, range(inits))
        ]
        for inits in (2, 1)
    ]
    first, second = map(losses_of, runs)
    means = first.nats.reshape(4, 3, 2, 6).mean(axis=2)
    assert log_ppl_at(first, 400).count == 3
    assert log_ppl_at(first, 400).value == pytest.approx(means[3].sum() / 3 / 120)
    law = fit_draws(
        *(getattr(line_points([run.point for run in runs[0]]), name) for name in ("tokens", "ppl", "draws"))
    )
    assert exponent(first).draws.interval == pytest.approx(law.alpha_ci95)
    difference = paired_losses(first, second)
    assert difference.nats == pytest.approx(second.nats - means.reshape(12, 6))
    assert difference.points.draws == second.points.draws


def test_a_table_with_a_draw_seed_averages_initialisations(tmp_path):
    points = nested(4)
    columns = ("num_samples", "seed", "draw_seed", "train_tokens", "val_ppl")
    for rows, name in ((points, "all.csv"), (merged(points), "means.csv")):
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file).writerows([columns, *([getattr(p, c) for c in columns] for p in rows)])
    found, expected = (fit_table(tmp_path / name)["groups"][0] for name in ("all.csv", "means.csv"))
    assert (found["n"], found["interval_kind"]) == (12, "draws")
    assert found["alpha_ci95"] == pytest.approx(expected["alpha_ci95"])


def test_a_draw_seed_written_as_a_decimal_is_the_same_draw(tmp_path):
    """As pandas writes whole numbers of a column with gaps."""
    rows = [
        (n, seed, d, 900 * seed / n**0.3)
        for n in (100, 200)
        for seed, d in ((1, ""), (2, ""), (3, "1.0"), (4, "2.0"))
    ]
    path = Path(tmp_path / "t.csv")
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("tokens", "seed", "draw_seed", "ppl"), *rows])
    assert fit_table(path)["groups"][0]["n"] == 4
