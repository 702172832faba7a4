"""Before anything imports cvfp: check shapes at run time. And no test touches the user's cache."""

from __future__ import annotations

import os

import jaxtyping
import run_time_types

jaxtyping.jaxtyped = run_time_types.sparing(jaxtyping.jaxtyped)
# Where shapes are declared; all else is left to pyright, since checks take a third of a report's time.
WITH_SHAPES = [f"cvfp.{name}" for name in ("arms", "data", "hf", "metrics", "models", "training")]
jaxtyping.install_import_hook(WITH_SHAPES, "beartype.beartype")
# Tiny matrices gain nothing from threads, and on a busy machine threads wait (measured: 15 times slower).
os.environ["OMP_NUM_THREADS"] = "1"

from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

MANY = "many"
"""The profile under which properties are tried on many examples; `--hypothesis-profile many` chooses it."""
settings.register_profile(MANY)


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Point the token cache to a folder that ends with the session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVFP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_pulse() -> Iterator[None]:
    """No command says by itself that it goes on: how long it takes here is nothing that a test is about."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cvfp.cli.pulse.SILENCE", 86_400.0)
        yield


@pytest.fixture(scope="session")
def empty_picture(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A PNG with nothing on it."""
    from matplotlib.figure import Figure

    path = tmp_path_factory.mktemp("picture") / "empty.png"
    Figure(figsize=(0.1, 0.1)).savefig(path)
    return path.read_bytes()


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch, empty_picture: bytes) -> None:
    """Figures are made but not drawn, which takes half of a report's time: for tests of what it says."""
    from matplotlib.figure import Figure

    def save_nothing(_figure: Figure, path: str | Path, **_options: object) -> None:
        Path(path).write_bytes(empty_picture)

    monkeypatch.setattr(Figure, "savefig", save_nothing)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty short documents."""
    from lab_helpers import write_corpus

    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """The tiny sweep on it, run undisturbed by one process."""
    import torch
    from lab_helpers import tiny_plan

    from cvfp.lab.runner import run_sweep

    path = tmp_path_factory.mktemp("whole")
    run_sweep(tiny_plan(corpus), path, torch.device("cpu"))
    return path


def pytest_runtest_setup() -> None:
    """Every test checks types anew."""
    run_time_types.Turn.number += 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With many examples, a property is a long test."""
    if settings.get_current_profile_name() == MANY:
        for item in items:
            if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
                item.add_marker(pytest.mark.long)
