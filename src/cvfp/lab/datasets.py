"""The data sets and embedding tables of a sweep, opened once each."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from cvfp.data.dataset import Dataset, open_dataset
from cvfp.data.embeddings import load_table, table_fingerprint
from cvfp.records.arms import arm_kind
from cvfp.records.config import DataConfig, RunConfig
from cvfp.records.schema import digest


class Datasets:
    """Opened data sets by everything but their size, so that all points of a sweep share them."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.tell = note
        self.notes: list[str] = []
        self.opened: dict[DataConfig, Dataset] = {}
        self.tables: dict[str, str] = {}

    def note(self, text: str) -> None:
        """Tell at once, and keep for the log and the records."""
        self.tell(text)
        self.notes.append(text)

    def of(self, config: RunConfig) -> Dataset:
        """The data set that a point trains on. Raises `InputError` as `open_dataset`."""
        key = config.data.model_copy(update={"num_samples": 1, "draw_seed": None})
        if key not in self.opened:
            self.opened[key] = open_dataset(config.data, self.note)
        return self.opened[key]

    def check_table(self, config: RunConfig) -> None:
        """Look at the embedding table of a point that reads one from a file. Raises `InputError`."""
        source = config.embedding.source
        if "embedding" not in arm_kind(config.arm).sections or source in ("random", *self.tables):
            return
        load_table(config.embedding, self.of(config).vocab_size, config.model.embed_dim, config.seed)
        self.tables[source] = str(table_fingerprint(config.embedding))

    def fingerprints(self) -> dict[str, str]:
        """What each opened data set and table holds, by a name for what was asked for."""
        held = {self._name(key): dataset.fingerprint for key, dataset in self.opened.items()}
        return held | {f"table {source}": fingerprint for source, fingerprint in self.tables.items()}

    def stats(self, except_for: Container[str]) -> list[dict[str, Any]]:
        """Figures of each opened data set whose name is not in `except_for`."""
        opened = self.opened.items()
        return [dataset.stats() for key, dataset in opened if self._name(key) not in except_for]

    @staticmethod
    def _name(key: DataConfig) -> str:
        return f"{' + '.join(key.corpora)} {key.tokenizer} {digest(key.model_dump(exclude={'draw_seed'}))}"
