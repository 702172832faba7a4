"""Running one point: fit the arm, score the test split, make the record."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from cvfp.arms.base import Budget, Facts, Fitted
from cvfp.arms.registry import make_arm
from cvfp.data.dataset import Dataset, Stream
from cvfp.metrics.perplexity import bits_per_byte, perplexity
from cvfp.records.arms import arm_kind
from cvfp.records.config import RunConfig
from cvfp.records.plan import PlannedPoint
from cvfp.records.results import DocumentScores, PointRecord, RunRecord


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
        CvfpError: training diverged.
        InputError: the data cannot serve this config (too few documents, a table of another shape).
    """
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
    row = identity(point) | _figures(facts, train, dataset.test, nll) | {"status": "done"} | measured
    return RunRecord(
        run_hash=config.run_hash,
        point=PointRecord.parse(row, f"arm {config.arm}"),
        phase1_converged=facts.phase1_converged,
        facts=facts.notes
        | {"prior": [*dataset.prior, *facts.prior], "test_corpora": corpus_scores(nll, dataset)},
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
            "ppl": perplexity(nll[chosen]),
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
        return {} if config.own is not None else {"num_layers": config.token_training.num_layers}
    return {
        "num_layers": config.shape.num_layers,
        "context_dim": config.shape.context_dim if kind.has_context else 0,
        "num_input_tokens": config.shape.num_input_tokens,
    }


def _figures(facts: Facts, train: Stream, test: Stream, nll: np.ndarray) -> dict:
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
        "val_ppl": perplexity(nll),
        "bits_per_byte": bits_per_byte(nll, test.target_bytes),
        "total_params": facts.total_params,
        "trained_params": facts.trained_params,
        "context_block_params": facts.context_block_params,
        "flops": facts.flops,
    }
