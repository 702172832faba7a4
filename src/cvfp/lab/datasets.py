"""The data sets of a sweep, opened once each."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from cvfp.data.dataset import Dataset, open_dataset
from cvfp.records.config import DataConfig, RunConfig
from cvfp.records.schema import digest


class Datasets:
    """Opened data sets by everything but their size, so that all points of a sweep share them."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.note = note
        self.opened: dict[DataConfig, Dataset] = {}

    def of(self, config: RunConfig) -> Dataset:
        """The data set that a point trains on. Raises `InputError` as `open_dataset`."""
        key = config.data.model_copy(update={"num_samples": 1})
        if key not in self.opened:
            self.opened[key] = open_dataset(config.data, self.note)
        return self.opened[key]

    def fingerprints(self) -> dict[str, str]:
        """What each opened data set holds, by a name for what was asked for."""
        return {self._name(key): dataset.fingerprint for key, dataset in self.opened.items()}

    def stats(self, except_for: Container[str]) -> list[dict[str, Any]]:
        """Figures of each opened data set whose name is not in `except_for`."""
        opened = self.opened.items()
        return [dataset.stats() for key, dataset in opened if self._name(key) not in except_for]

    @staticmethod
    def _name(key: DataConfig) -> str:
        return f"{key.corpus} {key.tokenizer} {digest(key.model_dump())}"
