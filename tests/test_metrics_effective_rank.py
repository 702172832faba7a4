"""Claim: the effective rank is that of Roy & Vetterli, on the uncentred singular values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fuzz_helpers import tried
from hypothesis import given
from hypothesis import strategies as st

from cvfp.metrics.context_health import MAX_ROWS, sample_rows
from cvfp.metrics.context_health import effective_rank as rank_of_tensor


def effective_rank(matrix: np.ndarray) -> float:
    return rank_of_tensor(torch.from_numpy(matrix))


def orthonormal(rows: int, columns: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((rows, columns)))[0]


def planted(spectrum: np.ndarray, rows: int = 60, seed: int = 0) -> np.ndarray:
    """A matrix with these singular values."""
    count = len(spectrum)
    return orthonormal(rows, count, seed) @ np.diag(spectrum) @ orthonormal(count, count, seed + 1).T


def by_svd(matrix: np.ndarray) -> float:
    singular = np.linalg.svd(matrix, compute_uv=False)
    p = singular[singular > 0] / singular.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


@tried(50)
@given(spectrum=st.lists(st.floats(0.01, 100), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_rank_of_a_planted_spectrum_is_the_exponential_of_its_entropy(spectrum: list[float], seed: int):
    p = np.array(spectrum) / np.sum(spectrum)
    expected = np.exp(-(p * np.log(p)).sum())
    assert effective_rank(planted(np.array(spectrum), seed=seed)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_equal_singular_values_count_one_each_and_zeros_nothing(rank: int):
    spectrum = np.array([2.0] * rank + [0.0] * (8 - rank))
    assert effective_rank(planted(spectrum)) == pytest.approx(rank, rel=1e-4)


@tried(30)
@given(rows=st.integers(2, 40), columns=st.integers(1, 20), seed=st.integers(0, 99))
def test_equals_the_definition_by_svd(rows: int, columns: int, seed: int):
    """Also with fewer rows than columns; rounding leaves eigenvalues of about 1e-16, so roots of 1e-8."""
    matrix = np.random.default_rng(seed).standard_normal((rows, columns)) + 1
    assert effective_rank(matrix) == pytest.approx(by_svd(matrix), rel=1e-4)
    assert 1 - 1e-9 <= effective_rank(matrix) <= columns + 1e-9


def test_isotropic_contexts_use_nearly_all_dimensions():
    rows = np.random.default_rng(0).standard_normal((20_000, 64)).astype(np.float32)
    assert 63.8 < effective_rank(rows) <= 64


def test_matrix_is_not_centred():
    """A common offset is a direction like any other: it lowers the rank."""
    rows = np.random.default_rng(0).standard_normal((2000, 16))
    assert effective_rank(rows + 10) < effective_rank(rows) - 1


@tried(30)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_scale_does_not_matter(scale: float, seed: int):
    matrix = np.random.default_rng(seed).standard_normal((30, 6))
    assert effective_rank(scale * matrix) == pytest.approx(effective_rank(matrix), rel=1e-9)


def test_an_all_zero_matrix_is_refused():
    with pytest.raises(ValueError, match="all-zero"):
        effective_rank(np.zeros((5, 3)))


@given(num_rows=st.integers(0, 300), most=st.integers(1, 200), seed=st.integers(0, 99))
def test_sampled_rows_are_distinct_in_order_and_repeatable(num_rows: int, most: int, seed: int):
    rows = sample_rows(num_rows, seed, most)
    assert len(rows) == min(num_rows, most)
    assert (np.diff(rows) > 0).all()
    assert ((rows >= 0) & (rows < num_rows)).all()
    np.testing.assert_array_equal(rows, sample_rows(num_rows, seed, most))


def test_at_most_ten_thousand_rows_are_drawn_and_the_seed_chooses_them():
    assert MAX_ROWS == 10_000
    assert len(sample_rows(50_000, seed=1)) == 10_000
    assert not np.array_equal(sample_rows(50_000, seed=1), sample_rows(50_000, seed=2))
