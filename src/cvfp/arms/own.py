"""A user's own file as an arm: `cvfp run v3 --arms cvfp my_model.py`.

The file defines `make_arm(config, vocab_size)`, which returns a `cvfp.arms.base.Arm`; the arm goes by the
file's name. `config.own.settings` holds what `--set own.settings.KEY=VALUE` says. `examples/gru.py` is one.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np

from cvfp.arms.base import Arm, Budget, Facts, Fitted, Tokens
from cvfp.records.config import OwnArm, RunConfig
from cvfp.records.errors import CvfpError, InputError
from cvfp.records.files import read_text
from cvfp.records.schema import digest
from cvfp.training.evaluation import Scores

MAKE = "make_arm"


def load_own_arm(config: RunConfig, vocab_size: int) -> Arm:
    """Run the file, and its `make_arm`.

    Raises:
        InputError: the file is gone or has changed since the sweep was planned, does not run, or does not
            make an arm.
    """
    own = config.own
    assert own is not None
    code = read_text(Path(own.file))
    if digest(code) != own.code:
        raise InputError(
            f"{own.file}: has changed since this sweep was planned; give another --out directory"
        )
    with _told(own.file, "does not run", InputError):
        module = _module(own, config.arm)
    make = getattr(module, MAKE, None)
    if not callable(make):
        raise InputError(f"{own.file}: defines no {MAKE}(config, vocab_size)")
    with _told(own.file, MAKE, InputError):
        arm = make(config, vocab_size)
    if not isinstance(arm, Arm):
        raise InputError(f"{own.file}: {MAKE} returned {type(arm).__name__}, not a cvfp.arms.base.Arm")
    return _OwnArm(own.file, arm)


def _module(own: OwnArm, name: str) -> ModuleType:
    """The file as a module, run once per process and content."""
    key = f"cvfp_own_arm_{name}_{own.code}"
    if key in sys.modules:
        return sys.modules[key]
    spec = importlib.util.spec_from_file_location(key, own.file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module  # dataclasses of the file look their module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[key]
        raise
    return module


@contextmanager
def _told(file: str, where: str, kind: type[CvfpError]) -> Iterator[None]:
    """Whatever the user's code raises inside, as one line of ours; Ctrl-C stays what it is."""
    try:
        yield
    except CvfpError:
        raise
    except (Exception, SystemExit) as error:  # other people's code may raise anything
        first = (str(error).splitlines() or [""])[0]
        raise kind(f"{file}: {where}: {type(error).__name__}: {first}") from error


class _OwnArm(Arm):
    """A user's arm whose faults are told: a point of it fails, the sweep goes on."""

    def __init__(self, file: str, arm: Arm) -> None:
        self.file, self.arm = file, arm

    def fit(self, train: Tokens, dev: Tokens, budget: Budget, seed: int) -> Fitted:
        with _told(self.file, "fit", CvfpError):
            fitted = self.arm.fit(train, dev, budget, seed)
        for what, value, kind in (
            ("fit returned", fitted, Fitted),
            ("facts is", getattr(fitted, "facts", None), Facts),
        ):
            if not isinstance(value, kind):
                raise CvfpError(
                    f"{self.file}: {what} {type(value).__name__}, not a cvfp.arms.base.{kind.__name__}"
                )
        return _OwnFitted(self.file, fitted)


class _OwnFitted(Fitted):
    """What a user's arm has fitted; its scores are looked at."""

    def __init__(self, file: str, fitted: Fitted) -> None:
        self.file, self.fitted, self.facts = file, fitted, fitted.facts

    def score(self, tokens: Tokens) -> Scores:
        return self.score_with_rank(tokens, 0)[0]

    def score_with_rank(self, tokens: Tokens, seed: int) -> tuple[Scores, float | None]:
        with _told(self.file, "score", CvfpError):
            scores, rank = self.fitted.score_with_rank(tokens, seed)
        if not isinstance(scores, Scores):
            raise CvfpError(f"{self.file}: score returned {type(scores).__name__}, not Scores")
        wanted = (len(tokens) - 1,)
        for name, values in (("nll", scores.nll), ("correct", scores.correct)):
            if np.shape(values) != wanted:
                raise CvfpError(
                    f"{self.file}: score: {name} has shape {np.shape(values)}, needed is {wanted}"
                )
        if not (np.isfinite(scores.nll).all() and (scores.nll >= 0).all()):
            raise CvfpError(f"{self.file}: score: nll must be finite and not negative")
        return scores, rank

    def save(self, directory: Path) -> None:
        with _told(self.file, "save", CvfpError):
            self.fitted.save(directory)
