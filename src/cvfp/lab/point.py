"""Running one point: open its data, fit the arm or mix the results of others, score, make the record."""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cvfp.arms.base import CLOSED_FORM, Budget, Facts, Fitted, make_arm
from cvfp.arms.mixture import mixed_nll, mixture_weights
from cvfp.data.dataset import Dataset, Stream, open_dataset
from cvfp.data.embeddings import load_table, table_fingerprint
from cvfp.lab.messages import Note, Tell, tell_nobody
from cvfp.lab.sweep_directory import RunDirectory, SweepDirectory
from cvfp.metrics.perplexity import bits_per_byte, mean_nats, perplexity, perplexity_of
from cvfp.models.threads import threads_beside
from cvfp.records.arms import arm_kind
from cvfp.records.config import NO_TEST, DataConfig, RunConfig
from cvfp.records.errors import CvfpError
from cvfp.records.plan import PlannedPoint
from cvfp.records.results import DIVERGED, DocumentScores, PointRecord, RunFacts, RunRecord
from cvfp.records.schema import digest

# --- The data sets and embedding tables of a sweep, opened once each.


class Datasets:
    """Opened data sets by everything but their size, so that all points of a sweep share them."""

    def __init__(self, tell: Tell = tell_nobody) -> None:
        self.tell = tell
        self.notes: list[str] = []
        self.opened: dict[DataConfig, Dataset] = {}
        self.tables: dict[str, str] = {}

    def note(self, text: str) -> None:
        """Tell at once, and keep for the log and the records."""
        self.tell(Note(text))
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


# --- Fit the arm, score the test split, make the record.


@dataclass(frozen=True)
class PointResult:
    """A finished point: what is recorded, and what it was computed from."""

    record: RunRecord
    nll: np.ndarray
    """(T,) nats of the predicted tokens of the test split."""
    dev_nll: np.ndarray
    """(M,) of the dev split."""
    fitted: Fitted | None = None
    """None: made of other runs."""


def run_point(point: PlannedPoint, dataset: Dataset, budget: Budget) -> PointResult:
    """Fit on the point's documents, score the whole test split.

    Raises:
        CvfpError: training diverged to weights that cannot be scored.
        InputError: the data cannot serve this config (too few documents, a table of another shape).
    """
    with threads_beside(budget.device):
        return _run_point(point, dataset, budget)


def _run_point(point: PlannedPoint, dataset: Dataset, budget: Budget) -> PointResult:
    config = point.config
    started = time.perf_counter()
    train = dataset.train(config.data.num_samples, config.draw)
    fitted = make_arm(config, dataset.vocab_size).fit(train.tokens, dataset.dev.tokens, budget, config.seed)
    scores, val_er = fitted.score_with_rank(dataset.test.tokens, config.seed)
    measured = {"val_er": val_er, "val_acc": float(scores.correct.mean())}
    seconds = time.perf_counter() - started
    record = _record(point, dataset, fitted.facts, scores.nll, measured | {"wall_seconds": seconds})
    return PointResult(record, scores.nll, fitted.nll(dataset.dev.tokens), fitted)


def mixed_point(
    point: PlannedPoint, dataset: Dataset, facts: Facts, nll: np.ndarray, dev_nll: np.ndarray, seconds: float
) -> PointResult:
    """A point whose losses were made of those of others: which token is likeliest is not known then."""
    return PointResult(_record(point, dataset, facts, nll, {"wall_seconds": seconds}), nll, dev_nll)


def _record(
    point: PlannedPoint, dataset: Dataset, facts: Facts, nll: np.ndarray, measured: dict[str, float | None]
) -> RunRecord:
    config = point.config
    train = dataset.train(config.data.num_samples, config.draw)
    row = identity(point) | _figures(facts, train) | _result(config, facts, dataset, nll) | measured
    known = {"prior": [*dataset.prior, *facts.prior], "test_corpora": corpus_scores(nll, dataset)}
    return RunRecord(
        run_hash=config.run_hash,
        point=PointRecord.parse(row, f"arm {config.arm}"),
        phase1_converged=facts.phase1_converged,
        facts=RunFacts.model_validate(facts.notes | known),
        test_documents=document_scores(nll, dataset.test.offsets),
    )


def document_scores(nll: np.ndarray, offsets: np.ndarray) -> DocumentScores:
    """Sum the losses of tokens[1:] by document; the first document has one predicted token less."""
    losses = np.concatenate([[0.0], nll.astype(np.float64)])
    lengths = np.diff(offsets, append=len(losses))
    lengths[0] -= 1
    nats = np.add.reduceat(losses, offsets)
    return DocumentScores(
        tokens=tuple(lengths.tolist()), nats=tuple(round(value, 3) for value in nats.tolist())
    )


def corpus_scores(nll: np.ndarray, dataset: Dataset) -> dict[str, dict]:
    """The scores of each of several corpora; empty for one corpus."""
    test, names = dataset.test, list(dataset.corpus.parts)
    if len(names) == 1:
        return {}
    lengths = np.diff(test.offsets, append=len(test))
    corpora = np.repeat(dataset.corpus.store.parts[dataset.split.test][: len(lengths)], lengths)[1:]
    sizes = dataset.tokenizer.token_bytes[test.tokens[1:]]
    own = {name: corpora == number for number, name in enumerate(names)}
    return {
        name: {
            "tokens": int(chosen.sum()),
            "ppl": perplexity_of(mean_nats(nll[chosen])),
            "bits_per_byte": bits_per_byte(nll[chosen], int(sizes[chosen].sum())),
        }
        for name, chosen in own.items()
        if chosen.any()
    }


def failed(point: PlannedPoint, error: str) -> RunRecord:
    """The record of a point that could not be computed."""
    row = PointRecord(**identity(point), status="failed")
    return RunRecord(run_hash=point.config.run_hash, point=row, error=error)


def identity(point: PlannedPoint) -> dict:
    """The fields of a row that are known before it runs."""
    config = point.config
    return {
        "arm": config.arm,
        "config_name": point.config_name,
        "config_hash": config.config_hash,
        "num_samples": config.data.num_samples,
        "seed": config.seed,
        "draw_seed": config.data.draw_seed,
        **_shape(config),
    }


def _shape(config: RunConfig) -> dict:
    kind = arm_kind(config.arm)
    if not kind.neural:
        return {}
    if not kind.two_phase and not kind.has_context:
        return {} if config.own is not None else {"num_layers": config.sequence_training.num_layers}
    return {
        "num_layers": config.shape.num_layers,
        "context_dim": config.shape.context_dim if kind.has_context else 0,
        "num_input_tokens": config.shape.num_input_tokens,
    }


ROUNDING = 1e-5
"""How far above the vocabulary's size rounding may bring the PPL of a uniform guess."""


def _result(config: RunConfig, facts: Facts, dataset: Dataset, nll: np.ndarray) -> dict:
    """The score of a model by its status: PPL; of one that diverged, the loss.

    A trial of a tuning, which sees a token of the test text, is judged by its dev PPL.
    """
    nats = mean_nats(nll)
    ppl = perplexity_of(nats)
    judged = facts.dev_ppl if config.data.test_tokens == NO_TEST else ppl
    uniform = dataset.vocab_size * (1 + ROUNDING)
    learned = judged is not None and judged <= uniform and facts.stop_reason != DIVERGED
    if ppl is None or not learned:
        return {"status": DIVERGED, "val_nats": nats}
    target_bytes = dataset.test.target_bytes
    return {"status": "done", "val_ppl": ppl, "bits_per_byte": bits_per_byte(nll, target_bytes)}


def _figures(facts: Facts, train: Stream) -> dict:
    return {
        "train_tokens": len(train.tokens),
        "train_bytes": train.num_bytes,
        "steps": facts.steps,
        "tokens_seen": facts.tokens_seen,
        "stop_reason": facts.stop_reason,
        "best_epoch": facts.best_epoch,
        "phase1_iter": facts.phase1_iter,
        "train_er": facts.train_er,
        "train_ppl": facts.train_ppl,
        "dev_ppl": facts.dev_ppl,
        "total_params": facts.total_params,
        "trained_params": facts.trained_params,
        "context_block_params": facts.context_block_params,
        "flops": facts.flops,
    }


# --- A point of the arm `mixture`: made of what the runs of other arms of its sweep have stored.


def components(directory: SweepDirectory, point: PlannedPoint) -> list[PlannedPoint]:
    """The points that a mixture is made of: those of its lines with its size, seed and draw."""
    config = point.config
    at = (config.data.num_samples, config.seed, config.draw)
    found = {
        other.config.config_hash: other
        for other in directory.plan.points
        if (other.config.data.num_samples, other.config.seed, other.config.draw) == at
    }
    return [found[line] for line in config.mixture.lines]


def mix(directory: SweepDirectory, point: PlannedPoint, dataset: Dataset) -> PointResult:
    """Choose the weights on dev, score the test split. Raises `CvfpError` where a component has no
    result."""
    started = time.perf_counter()
    parts, records = components(directory, point), directory.records()
    made = [records[part.config.run_hash] for part in parts]
    for part, record in zip(parts, made, strict=True):
        if record.point.status != "done":
            raise CvfpError(f"{part.config.arm} has {record.point.status}, and the mixture is made of it")
    runs = [directory.run_directory(part.config.run_hash) for part in parts]
    dev, test = _losses(runs, "dev_nll"), _losses(runs, "nll")
    weights = mixture_weights(dev)
    nll, dev_nll = mixed_nll(test, weights), mixed_nll(dev, weights)
    facts = _facts(made, weights.tolist(), perplexity(dev_nll))
    return mixed_point(point, dataset, facts, nll, dev_nll, time.perf_counter() - started)


def _losses(runs: Sequence[RunDirectory], which: str) -> list[np.ndarray]:
    return [run.read_losses()[which] for run in runs]


def _facts(made: Sequence[RunRecord], weights: list[float], dev_ppl: float) -> Facts:
    """Parameters are those of all arms that are mixed; FLOPs of scoring or mixing are not counted."""
    points = [record.point for record in made]
    shares = {point.arm: round(weight, 4) for point, weight in zip(points, weights, strict=True)}
    return Facts(
        stop_reason=CLOSED_FORM,
        total_params=sum(point.total_params or 0 for point in points),
        trained_params=sum(point.trained_params or 0 for point in points),
        dev_ppl=dev_ppl,
        flops=sum(point.flops or 0.0 for point in points),
        prior=tuple(dict.fromkeys(source for record in made for source in record.facts.prior)),
        notes={"weights": shares},
    )
