"""The CVFP arm, and its two ablations: an untrained context block, and none at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cvfp.arms.base import Arm, Budget, Facts, Fitted, Tokens, initial_bias, initial_table, on_device
from cvfp.data.embeddings import prior_of
from cvfp.metrics.context_health import effective_rank, sample_rows
from cvfp.metrics.cost import model_cost, phase1_flops, phase2_flops
from cvfp.metrics.perplexity import perplexity_of
from cvfp.models.checkpoint import save_checkpoint
from cvfp.models.cvfp import CVFPModel
from cvfp.records.arms import arm_kind
from cvfp.records.config import RunConfig, derived_seed
from cvfp.training.contexts import SpanContexts
from cvfp.training.devices import seeded
from cvfp.training.diagnosis import diagnose
from cvfp.training.evaluation import Scores, Segments, score, watch
from cvfp.training.next_token import Learned
from cvfp.training.phase1 import Phase1Result, learn_contexts, one_step_segments
from cvfp.training.phase2 import learn_tokens, trained_parameters


class CvfpArm(Arm):
    """Two phases: learn the contexts, then predict tokens from them.

    `cvfp` does both; `random-context` skips phase 1 and keeps the block at its initialisation;
    `no-context` has no context block.
    """

    def __init__(self, config: RunConfig, vocab_size: int) -> None:
        self.config, self.vocab_size = config, vocab_size
        self.use_context = arm_kind(config.arm).has_context
        self.learn_context = "phase1" in arm_kind(config.arm).sections

    def fit(self, train: Tokens, dev: Tokens, budget: Budget, seed: int) -> FittedCvfp:
        """Train both phases. Raises `CvfpError` when training diverges at once, `InputError` for a bad
        table."""
        config = self.config
        model = self._build(train, seed).to(budget.device)
        tokens, dev_tokens = on_device(train, budget.device), on_device(dev, budget.device)
        first = self._phase1(model, tokens, budget, seed)
        rows, seen = _rank_rows(tokens, seed), []
        contexts = self._training_contexts(model, tokens, first, rows, seen)
        train_er = _share_of_rank(torch.cat(seen)) if self.use_context else None
        second = learn_tokens(
            model,
            tokens,
            contexts,
            dev_tokens,
            config.phase2,
            train_embedding=config.embedding.trained,
            seed=seed,
            listen=budget.listen,
            savepoint=budget.saves.of("phase2"),
        )
        notes: dict[str, Any] = {"phase2": {"seconds": second.seconds, "precision": second.precision}}
        if first is not None:
            notes["phase1"] = {
                "convergence_rate": first.convergence_rate,
                "seconds": first.seconds,
                "precision": first.precision,
            }
        if self.use_context:
            notes["health"] = diagnose(model, dev_tokens, seed).model_dump()
        return FittedCvfp(model, self._facts(model, len(train), first, second, train_er, notes))

    def _build(self, train: Tokens, seed: int) -> CVFPModel:
        config = self.config
        table = initial_table(config, self.vocab_size, seed)
        bias = initial_bias(config, train, self.vocab_size)
        with seeded(derived_seed(seed, "weights"), torch.device("cpu")):
            return CVFPModel(config.model, table, bias, self.use_context)

    def _phase1(self, model: CVFPModel, tokens: Tensor, budget: Budget, seed: int) -> Phase1Result | None:
        if not self.learn_context:
            return None
        keep = self.config.phase2.context_source == "one_step"
        return learn_contexts(
            model,
            tokens,
            self.config.phase1,
            seed=seed,
            listen=budget.listen,
            saves=budget.saves,
            keep_contexts=keep,
        )

    def _training_contexts(
        self, model: CVFPModel, tokens: Tensor, first: Phase1Result | None, rows: Tensor, seen: list[Tensor]
    ) -> SpanContexts:
        """Those of phase 2; the last layer's at `rows` are put into `seen`."""
        if first is not None and self.config.phase2.context_source == "one_step":
            assert first.contexts is not None  # phase 1 keeps them for this
            segments = one_step_segments(model, tokens, first.contexts)
            return SpanContexts(model, tokens, watch(segments, rows, seen), held=None)
        return SpanContexts(model, tokens, watch(model.context_segments(tokens), rows, seen))

    def _facts(
        self,
        model: CVFPModel,
        num_tokens: int,
        first: Phase1Result | None,
        second: Learned,
        train_er: float | None,
        notes: dict[str, Any],
    ) -> Facts:
        config = self.config
        cost = model_cost(config.model, self.vocab_size, config.embedding.output_bias, self.use_context)
        trained = sum(p.numel() for p in trained_parameters(model, config.embedding.trained))
        flops = phase2_flops(cost, second.tokens_read, config.embedding.trained)
        if first is not None:
            trained += cost.context_block_params
            flops += phase1_flops(cost, num_tokens, first.iterations - 1)
        prior = prior_of(config.embedding)
        return Facts(
            stop_reason=second.stop_reason,
            total_params=cost.total_params,
            trained_params=trained,
            context_block_params=cost.context_block_params,
            steps=second.steps,
            tokens_seen=second.tokens_seen,
            best_epoch=second.best_epoch,
            phase1_iter=first.iterations if first else None,
            phase1_converged=first.converged if first else None,
            train_er=train_er,
            train_ppl=perplexity_of(second.train_loss),
            dev_ppl=perplexity_of(second.dev_loss),
            flops=flops,
            prior=(prior,) if prior else (),
            notes=notes,
        )


class FittedCvfp(Fitted):
    """A trained model."""

    def __init__(self, model: CVFPModel, facts: Facts) -> None:
        self.model, self.facts = model, facts

    def score(self, tokens: Tokens) -> Scores:
        return score(self.model, on_device(tokens, self.model.device))

    def score_with_rank(self, tokens: Tokens, seed: int) -> tuple[Scores, float | None]:
        if self.model.context_block is None:
            return self.score(tokens), None
        stream, seen = on_device(tokens, self.model.device), []
        rows = _rank_rows(stream, seed)
        scores = score(self.model, stream, watch(self.model.context_segments(stream), rows, seen))
        return scores, _share_of_rank(torch.cat(seen))

    def save(self, directory: Path) -> None:
        save_checkpoint(self.model, directory)


def _rank_rows(stream: Tensor, seed: int) -> Tensor:
    """Positions of a stream that its effective rank is computed from."""
    return torch.from_numpy(sample_rows(len(stream), derived_seed(seed, "rank"))).to(stream.device)


def rank_of_contexts(stream: Tensor, segments: Segments, seed: int) -> float:
    """Effective rank of a stream's contexts as a share of d_c."""
    rows, seen = _rank_rows(stream, seed), []
    for _ in watch(segments, rows, seen):
        pass
    return _share_of_rank(torch.cat(seen))


def _share_of_rank(rows: Tensor) -> float:
    """Effective rank of (T, d_c) contexts as a share of d_c."""
    return effective_rank(rows) / rows.shape[1]
