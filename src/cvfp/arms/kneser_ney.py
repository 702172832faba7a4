"""The n-gram arm: interpolated modified Kneser-Ney, fitted in one pass of counting."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from cvfp.arms.base import CLOSED_FORM, Arm, Budget, Facts, Fitted, Tokens
from cvfp.arms.ngram_model import KneserNey, KneserNeyModel
from cvfp.metrics.perplexity import perplexity
from cvfp.training.evaluation import Scores


class KneserNeyArm(Arm):
    """n-grams of up to `order` (1 to 5) tokens over a vocabulary of V ids. Nothing is tuned on dev."""

    def __init__(self, order: int, vocab_size: int) -> None:
        self.order, self.vocab_size = order, vocab_size

    def fit(
        self, train: Int[np.ndarray, " N"], dev: Int[np.ndarray, " M"], budget: Budget, seed: int
    ) -> FittedNgram:
        """Count and discount; `budget` and `seed` change nothing. Raises `InputError` without tokens."""
        model = KneserNey(self.order, self.vocab_size).fit(train)
        facts = Facts(
            stop_reason=CLOSED_FORM,
            total_params=model.num_params,
            trained_params=model.num_params,
            tokens_seen=len(train),
            train_ppl=perplexity(model.score(train)[0]),
            dev_ppl=perplexity(model.score(dev)[0]),
        )
        return FittedNgram(model, facts)


class FittedNgram(Fitted):
    """A counted model."""

    def __init__(self, model: KneserNeyModel, facts: Facts) -> None:
        self.model, self.facts = model, facts

    def score(self, tokens: Tokens) -> Scores:
        """Nats and top-1 hits of tokens[1:]; the context is the stream so far. Ties go to the smallest id."""
        return Scores(*self.model.score(tokens))
