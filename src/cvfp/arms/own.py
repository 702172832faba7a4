"""A user's own file as an arm: `cvfp run v3 --arms cvfp my_model.py`.

The file defines `make_arm(config, vocab_size)`, which returns a `cvfp.arms.base.Arm`; the arm goes by the
file's name. `config.own.settings` holds what `--set own.settings.KEY=VALUE` says. `examples/gru.py` is one.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from cvfp.arms.base import Arm
from cvfp.records.config import OwnArm, RunConfig
from cvfp.records.errors import InputError
from cvfp.records.files import read_text
from cvfp.records.schema import digest

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
    make = getattr(_module(own, config.arm), MAKE, None)
    if not callable(make):
        raise InputError(f"{own.file}: defines no {MAKE}(config, vocab_size)")
    arm = make(config, vocab_size)
    if not isinstance(arm, Arm):
        raise InputError(f"{own.file}: {MAKE} returned {type(arm).__name__}, not a cvfp.arms.base.Arm")
    return arm


def _module(own: OwnArm, name: str):
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
    except Exception as error:
        del sys.modules[key]
        raise InputError(f"{own.file}: does not run: {type(error).__name__}: {error}") from error
    return module
