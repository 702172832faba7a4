"""The n-gram arms: interpolated modified Kneser-Ney, fitted in one pass of counting, and the unigram.

Kneser & Ney 1995; Chen & Goodman 1998.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from cvfp.arms.base import CLOSED_FORM, Arm, Budget, Facts, Fitted, Tokens
from cvfp.metrics.perplexity import perplexity
from cvfp.records.errors import InputError
from cvfp.training.evaluation import Scores

# --- All distinct n-grams of a token stream, order by order, as sorted arrays of integers.


UNSEEN = -1
"""Id of an n-gram that is not in the index, or does not fit between a stream's start and a position."""


@dataclass(frozen=True)
class GramTypes:
    """The distinct n-grams of one order. The id of an n-gram is its place in `keys`.

    `keys` (G,) int64, ascending: (id of the first n - 1 tokens) * V + last token, so the n-grams of one
    context lie next to each other, their last tokens ascending. At order 1 the id is the token itself and
    `keys` are all V tokens, seen or not: the empty context has id 0.
    """

    keys: np.ndarray
    counts: np.ndarray
    """(G,) occurrences in the stream."""
    suffixes: np.ndarray
    """(G,) ids, one order below, of the last n - 1 tokens; 0 at order 1."""
    num_contexts: int
    """Number of n-grams one order below (1 at order 1)."""
    vocab_size: int

    @property
    def contexts(self) -> np.ndarray:
        """(G,) ids, one order below, of the first n - 1 tokens."""
        return self.keys // self.vocab_size

    @property
    def words(self) -> np.ndarray:
        """(G,) last tokens."""
        return self.keys % self.vocab_size

    @property
    def num_seen(self) -> int:
        """Number of n-grams that occur."""
        return int(np.count_nonzero(self.counts))

    @property
    def num_followed(self) -> int:
        """Number of contexts that some token follows."""
        return 1 + int(np.count_nonzero(np.diff(self.contexts[self.counts > 0])))

    def find(self, contexts: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Ids of the n-grams (context, word); `UNSEEN` where there is no such n-gram or no context."""
        wanted = contexts * self.vocab_size + words
        places = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where((contexts != UNSEEN) & (self.keys[places] == wanted), places, UNSEEN)


def index_grams(tokens: np.ndarray, order: int, vocab_size: int) -> list[GramTypes]:
    """The n-grams of orders 1 to `order` (fewer when the stream is shorter than `order`).

    Args:
        tokens: (T,) int64 in [0, V), T >= 1.
    """
    levels = [_single_tokens(tokens, vocab_size)]
    ids = tokens  # ids[i] belongs to the n-gram that starts at position i
    for length in range(2, min(order, len(tokens)) + 1):
        keys = ids[:-1] * vocab_size + tokens[length - 1 :]
        unique, first, inverse, counts = np.unique(
            keys, return_index=True, return_inverse=True, return_counts=True
        )
        num_contexts = len(levels[-1].keys)
        levels.append(GramTypes(unique, counts, ids[first + 1], num_contexts, vocab_size))
        ids = inverse
    return levels


def stream_ids(levels: list[GramTypes], tokens: np.ndarray) -> list[np.ndarray]:
    """For every order, (T,) ids of the n-grams that end at each position of a stream, `UNSEEN` included."""
    ids = [tokens]
    for grams in levels[1:]:
        contexts = np.concatenate([[UNSEEN], ids[-1][:-1]])
        ids.append(grams.find(contexts, tokens))
    return ids


def _single_tokens(tokens: np.ndarray, vocab_size: int) -> GramTypes:
    return GramTypes(
        keys=np.arange(vocab_size),
        counts=np.bincount(tokens, minlength=vocab_size),
        suffixes=np.zeros(vocab_size, dtype=np.int64),
        num_contexts=1,
        vocab_size=vocab_size,
    )


# --- Interpolated modified Kneser-Ney n-grams (Kneser & Ney 1995; Chen & Goodman 1998), in arrays.


@dataclass(frozen=True)
class Level:
    """The part of the model of one order k, with h' the context h without its oldest token:

    p_k(w | h) = head(hw) + backoff(h) * p_{k-1}(w | h'),  p_0 = 1/V
    head(hw) = (c(hw) - D(c(hw))) / c(h*),  backoff(h) = sum_w D(c(hw)) / c(h*)

    c are occurrences at the highest order; below it the number of distinct tokens seen before hw. A context
    of which nothing is known has backoff 1.
    """

    grams: GramTypes
    heads: np.ndarray
    """(G,) head of every n-gram."""
    backoffs: np.ndarray
    """(C,) backoff of every context."""
    probabilities: np.ndarray
    """(G,) p_k of every n-gram."""
    best: np.ndarray
    """(C,) most probable next token of every context, the smallest id among equals."""
    best_probabilities: np.ndarray
    """(C,) its p_k."""


@dataclass(frozen=True)
class KneserNeyModel:
    """A fitted model: one `Level` per order, lowest first."""

    levels: tuple[Level, ...]
    vocab_size: int
    undefined: dict[int, tuple[int, ...]]
    """By order, the counts whose discount the formula leaves undefined, so that half of them is taken."""

    @property
    def num_params(self) -> int:
        """Numbers the model keeps: a head per n-gram seen and a backoff per context it follows."""
        return sum(level.grams.num_seen + level.grams.num_followed for level in self.levels)

    def score(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each token of a stream from the second on, given all earlier ones.

        Args:
            tokens: (T,) ids in [0, V).

        Returns:
            -ln p in nats, (T-1,) float64, and whether the token is the most probable one, (T-1,) bool.

        Raises:
            InputError: a token outside the vocabulary.
        """
        tokens = checked_tokens(tokens, self.vocab_size)
        ids = stream_ids([level.grams for level in self.levels], tokens)
        p = np.full(max(len(tokens) - 1, 0), 1 / self.vocab_size)
        guess = np.zeros(len(p), dtype=np.int64)
        for k, level in enumerate(self.levels):
            context = ids[k - 1][:-1] if k > 0 else np.zeros_like(guess)
            gram, known = ids[k][1:], context != UNSEEN
            head = np.where(gram != UNSEEN, level.heads[gram], 0.0)
            p = np.where(known, head + level.backoffs[context] * p, p)
            guess = np.where(known, level.best[context], guess)
        return -np.log(p), guess == tokens[1:]

    def distribution(self, context: np.ndarray) -> np.ndarray:
        """p(w | context) for all w, (V,) float64. Raises `InputError` for a token outside the vocabulary."""
        context = checked_tokens(context, self.vocab_size)
        ids = stream_ids([level.grams for level in self.levels], context)
        context_ids = [0, *(of_order[-1] for of_order in ids[:-1] if len(context) > 0)]
        p = np.full(self.vocab_size, 1 / self.vocab_size)
        for level, last in zip(self.levels, context_ids, strict=False):  # a short context has no long n-grams
            if last != UNSEEN:
                p = level.backoffs[last] * p
                first, end = np.searchsorted(level.grams.keys, [last * len(p), (last + 1) * len(p)])
                p[level.grams.words[first:end]] += level.heads[first:end]
        return p


@dataclass(frozen=True)
class KneserNey:
    """How to fit: the longest n-gram (1 to 5 tokens) and V."""

    order: int
    vocab_size: int

    def fit(self, tokens: np.ndarray) -> KneserNeyModel:
        """Count the n-grams of one stream and discount them.

        Args:
            tokens: (T,) ids in [0, V), T >= 1.

        Raises:
            InputError: no token, or one outside the vocabulary.
        """
        tokens = checked_tokens(tokens, self.vocab_size)
        if len(tokens) == 0:
            raise InputError("an n-gram model needs at least one training token, got none")
        indexed = index_grams(tokens, self.order, self.vocab_size)
        levels: list[Level] = []
        undefined: dict[int, tuple[int, ...]] = {}
        for order, (grams, above) in enumerate(zip(indexed, [*indexed[1:], None], strict=True), 1):
            counts = grams.counts if above is None else _continuations(above)
            levels.append(_level(grams, counts, levels[-1] if levels else None))
            if found := undefined_discounts(counts):
                undefined[order] = found
        return KneserNeyModel(tuple(levels), self.vocab_size, undefined)


def checked_tokens(tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    """The tokens as int64. Raises `InputError` when one is outside [0, V)."""
    array = np.asarray(tokens, dtype=np.int64)
    if array.size and not (array.min() >= 0 and array.max() < vocab_size):
        raise InputError(
            f"tokens: ids from {array.min()} to {array.max()}, allowed are 0 to {vocab_size - 1}"
        )
    return array


def discounts(counts: np.ndarray) -> np.ndarray:
    """What is taken from the counts 0, 1, 2 and 3 or more: (4,) with D_0 = 0 and 0 < D_i <= i.

    D_i = i - (i + 1) * Y * n_{i+1} / n_i with Y = n_1 / (n_1 + 2 n_2), n_i being the number of n-grams with
    count i (Chen & Goodman 1998). On small data the formula may divide by zero, take nothing, or take
    all of every singleton because there is no doubleton; so where n_1, n_i or n_{i+1} is zero, or the value
    is not positive, D_i = i / 2.
    """
    return np.array([0.0, *(i / 2 if value is None else value for i, value in _formula(counts).items())])


def undefined_discounts(counts: np.ndarray) -> tuple[int, ...]:
    """Which of the counts 1, 2 and 3 (or more) occur, and have no discount by the formula of `discounts`."""
    seen = np.minimum(counts, 3)
    return tuple(i for i, value in _formula(counts).items() if value is None and (seen == i).any())


def _formula(counts: np.ndarray) -> dict[int, float | None]:
    """D_1, D_2 and D_3 of `discounts`; None where the formula gives nothing to take."""
    n = np.bincount(np.minimum(counts, 5), minlength=6)
    y = n[1] / (n[1] + 2 * n[2]) if n[1] > 0 else 0.0
    found: dict[int, float | None] = {}
    for i in (1, 2, 3):
        defined = n[1] > 0 and n[i] > 0 and n[i + 1] > 0
        value = i - (i + 1) * y * n[i + 1] / n[i] if defined else 0.0
        found[i] = value if value > 0 else None
    return found


def _continuations(above: GramTypes) -> np.ndarray:
    """Distinct tokens seen before each n-gram: how many n-grams one order above end with it."""
    return np.bincount(above.suffixes, minlength=above.num_contexts)


def _level(grams: GramTypes, counts: np.ndarray, below: Level | None) -> Level:
    contexts, taken = grams.contexts, discounts(counts)[np.minimum(counts, 3)]
    totals = np.bincount(contexts, counts, grams.num_contexts)
    freed = np.bincount(contexts, taken, grams.num_contexts)
    known = totals > 0
    divisor = np.where(known, totals, 1.0)
    heads, backoffs = (counts - taken) / divisor[contexts], np.where(known, freed / divisor, 1.0)
    lower = 1 / grams.vocab_size if below is None else below.probabilities[grams.suffixes]
    probabilities = heads + backoffs[contexts] * lower
    best, best_probabilities = _most_probable(grams, probabilities)
    if below is not None:
        best, best_probabilities = _with_lower_order(best, best_probabilities, backoffs, below)
    return Level(grams, heads, backoffs, probabilities, best, best_probabilities)


def _most_probable(grams: GramTypes, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Over the n-grams of each context: the best last token (smallest among equals) and its probability.

    A context that nothing follows has probability -1, below every other.
    """
    contexts = grams.contexts
    highest = np.full(grams.num_contexts, -1.0)
    starts = np.flatnonzero(np.diff(contexts, prepend=-1))
    highest[contexts[starts]] = np.maximum.reduceat(probabilities, starts)
    at_top = np.flatnonzero(probabilities == highest[contexts])
    best = np.zeros(grams.num_contexts, dtype=np.int64)
    best[contexts[at_top][::-1]] = grams.words[at_top][::-1]  # the first of each context is written last
    return best, highest


def _with_lower_order(
    best: np.ndarray, highest: np.ndarray, backoffs: np.ndarray, below: Level
) -> tuple[np.ndarray, np.ndarray]:
    """The best over the n-grams of each context and the best token of the shorter context.

    No other token can win: those not seen after h keep the order that the shorter context gives them. The
    shorter context's best may itself be seen after h; then its value here is too low and changes nothing.
    """
    shorter = below.grams.suffixes
    token, p = below.best[shorter], backoffs * below.best_probabilities[shorter]
    wins = (p > highest) | ((p == highest) & (token < best))
    return np.where(wins, token, best), np.where(wins, p, highest)


# --- The arm.


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
            notes=_notes(model),
        )
        return FittedNgram(model, facts)


def _notes(model: KneserNeyModel) -> dict[str, Any]:
    """What was fitted otherwise than the formula says, for the record; nothing where all of it is defined."""
    orders = {str(order): list(counts) for order, counts in model.undefined.items()}
    return {"undefined_discounts": orders} if orders else {}


class FittedNgram(Fitted):
    """A counted model."""

    def __init__(self, model: KneserNeyModel, facts: Facts) -> None:
        self.model, self.facts = model, facts

    def score(self, tokens: Tokens) -> Scores:
        """Nats and top-1 hits of tokens[1:]; the context is the stream so far. Ties go to the smallest id."""
        return Scores(*self.model.score(tokens))


# --- The unigram arm: token frequencies, the least that any model has to beat.


class UnigramArm(KneserNeyArm):
    """Order 1 of the n-gram arm: discounted counts interpolated with 1/V.

    p(w) = (c(w) - D(c(w))) / T + (sum of the discounts / T) / V. Against raising every count by one, it
    does not drown a small corpus in the 50,257 ids of GPT-2: 765 instead of 1102 PPL at 55,016 tokens of
    chitchat.
    """

    def __init__(self, vocab_size: int) -> None:
        super().__init__(1, vocab_size)
