"""The n-gram arm against a slow dictionary implementation, its own sums, and the reference perplexities."""

from collections import Counter, defaultdict

import numpy as np
import pytest
import torch

from cvfp.arms.base import Budget, make_arm
from cvfp.arms.kneser_ney import KneserNey, KneserNeyArm, discounts, undefined_discounts
from cvfp.data.dataset import open_dataset
from cvfp.records.config import DataConfig, RunConfig
from cvfp.records.errors import InputError

ORDERS = [1, 2, 3, 4, 5]
V = 23


def zipf_stream(length: int, seed: int, vocab_size: int = V) -> np.ndarray:
    """A Markov stream: half of the tokens follow a fixed successor, the rest are Zipf-like draws."""
    rng = np.random.default_rng(seed)
    draws = np.minimum(rng.zipf(1.5, length) - 1, vocab_size - 3)
    successor = rng.permutation(vocab_size - 2)
    follows = rng.random(length) < 0.5
    tokens = draws.copy()
    for i in range(1, length):
        if follows[i]:
            tokens[i] = successor[tokens[i - 1]]
    return tokens


class SlowKneserNey:
    """The definition, one dictionary per order and one n-gram at a time."""

    def __init__(self, tokens, order, vocab_size):
        self.vocab_size, self.order = vocab_size, min(order, len(tokens))
        tokens = [int(token) for token in tokens]
        self.counts = {}
        for k in range(1, self.order + 1):
            if k == self.order:
                grams = (tuple(tokens[i : i + k]) for i in range(len(tokens) - k + 1))
            else:
                longer = {tuple(tokens[i : i + k + 1]) for i in range(len(tokens) - k)}
                grams = (gram[1:] for gram in longer)
            self.counts[k] = Counter(grams)
        self.taken = {k: self._discounts(counts) for k, counts in self.counts.items()}
        self.followers = {k: defaultdict(dict) for k in self.counts}
        for k, counts in self.counts.items():
            for gram, count in counts.items():
                self.followers[k][gram[:-1]][gram[-1]] = count

    @staticmethod
    def _discounts(counts):
        n = Counter(counts.values())
        taken = {}
        for i in (1, 2, 3):
            if n[1] and n[i] and n[i + 1]:
                taken[i] = i - (i + 1) * n[1] / (n[1] + 2 * n[2]) * n[i + 1] / n[i]
            if taken.get(i, 0) <= 0:
                taken[i] = i / 2
        return taken

    def p(self, word, context):
        context = tuple(context)[max(0, len(context) - self.order + 1) :]
        return self._p(word, context)

    def _p(self, word, context):
        lower = self._p(word, context[1:]) if context else 1 / self.vocab_size
        seen = self.followers[len(context) + 1].get(context)
        if not seen:
            return lower
        taken = self.taken[len(context) + 1]
        total = sum(seen.values())
        head = seen[word] - taken[min(seen[word], 3)] if word in seen else 0
        return head / total + sum(taken[min(count, 3)] for count in seen.values()) / total * lower


@pytest.mark.parametrize("order", ORDERS)
def test_kneser_ney_equals_the_slow_definition(order):
    train, text = zipf_stream(600, seed=1), zipf_stream(150, seed=2)
    text[::17] = V - 1  # an id that the training stream does not hold
    slow = SlowKneserNey(train, order, V)
    nll, _ = KneserNey(order, V).fit(train).score(text)
    expected = [-np.log(slow.p(text[i], text[:i])) for i in range(1, len(text))]
    np.testing.assert_allclose(nll, expected, rtol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("length", [1, 2, 3, 5, 12])
def test_kneser_ney_equals_the_slow_definition_on_tiny_streams(length, order):
    train, text = zipf_stream(length, seed=length), zipf_stream(40, seed=9)
    slow, model = SlowKneserNey(train, order, V), KneserNey(order, V).fit(train)
    expected = [-np.log(slow.p(text[i], text[:i])) for i in range(1, len(text))]
    np.testing.assert_allclose(model.score(text)[0], expected, rtol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
def test_kneser_ney_sums_to_one_at_random_contexts(order):
    train = zipf_stream(2000, seed=3)
    model, rng = KneserNey(order, V).fit(train), np.random.default_rng(4)
    starts = rng.integers(0, len(train) - 6, 50)
    seen = [train[start : start + rng.integers(0, 6)] for start in starts]
    unseen = [rng.integers(0, V, rng.integers(1, 6)) for _ in range(50)]
    for context in [*seen, *unseen, train]:
        p = model.distribution(context)
        assert p.sum() == pytest.approx(1, abs=1e-12)
        assert p.min() > 0


@pytest.mark.parametrize("order", ORDERS)
def test_score_and_distribution_agree(order):
    model, text = KneserNey(order, V).fit(zipf_stream(800, seed=5)), zipf_stream(100, seed=6)
    nll, _ = model.score(text)
    expected = [-np.log(model.distribution(text[:i])[text[i]]) for i in range(1, len(text))]
    np.testing.assert_allclose(nll, expected, rtol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("length", [1, 7, 60, 800])
def test_top_1_is_the_most_probable_token_of_the_whole_vocabulary(length, order):
    model, text = KneserNey(order, V).fit(zipf_stream(length, seed=7)), zipf_stream(200, seed=8)
    _, correct = model.score(text)
    distributions = [model.distribution(text[:i]) for i in range(1, len(text))]
    np.testing.assert_array_equal(correct, [p.argmax() for p in distributions] == text[1:])


def test_ties_go_to_the_smallest_id():
    # After 0 come 4 and 2, once each; 2 and 4 also have equal chances one order below.
    model = KneserNey(2, 6).fit(np.array([0, 4, 0, 2, 0]))
    p = model.distribution(np.array([0]))
    assert p[2] == p[4] == p.max()
    assert model.score(np.array([0, 2]))[1].tolist() == [True]
    assert model.score(np.array([0, 4]))[1].tolist() == [False]


def test_a_changed_token_changes_nothing_before_it():
    model, text = KneserNey(5, V).fit(zipf_stream(800, seed=10)), zipf_stream(60, seed=11)
    nll, correct = model.score(text)
    for t in range(len(text)):
        other = text.copy()
        other[t] = (text[t] + 1) % V
        changed_nll, changed_correct = model.score(other)
        before = max(t - 1, 0)  # entry t - 1 belongs to token t
        np.testing.assert_array_equal(changed_nll[:before], nll[:before])
        np.testing.assert_array_equal(changed_correct[:before], correct[:before])


def test_an_unknown_context_backs_off_fully():
    train = zipf_stream(400, seed=12)
    model = KneserNey(3, V).fit(train)
    never = np.array([V - 1, V - 1])
    np.testing.assert_array_equal(model.distribution(never), model.distribution(np.array([], dtype=int)))


def test_bigram_by_hand():
    # Pairs of 0 1 0 1 0 0 2: 01 twice, 10 twice, 00 once, 02 once; n1 = n2 = 2, n3 = 0: D1 = 1/3
    # by the formula (Y = 1/3, 1 - 2/3), D2 = 1 by the rule for n3 = 0.
    # Tokens before 0, 1, 2: two, one, one; n1 = 2, n2 = 1, n3 = 0: Y = 1/2, D1 = 1/2, D2 = 1.
    model = KneserNey(2, 3).fit(np.array([0, 1, 0, 1, 0, 0, 2]))
    lower = np.array([1, 0.5, 0.5]) / 4 + (1 + 0.5 + 0.5) / 4 / 3
    after_0 = np.array([2 / 3, 1, 2 / 3]) / 4 + (1 / 3 + 1 + 1 / 3) / 4 * lower
    np.testing.assert_allclose(model.distribution(np.array([], dtype=int)), lower, rtol=1e-14)
    np.testing.assert_allclose(model.distribution(np.array([0])), after_0, rtol=1e-14)
    np.testing.assert_allclose(model.distribution(np.array([2])), lower, rtol=1e-14)


def test_discounts_follow_the_formula():
    counts = np.repeat([0, 1, 2, 3, 4, 9], [5, 100, 40, 20, 10, 7])
    y = 100 / 180
    expected = [0, 1 - 2 * y * 40 / 100, 2 - 3 * y * 20 / 40, 3 - 4 * y * 10 / 20]
    np.testing.assert_allclose(discounts(counts), expected)


@pytest.mark.parametrize(
    "counts, expected",
    [
        ([], [0, 0.5, 1, 1.5]),
        ([0, 0, 7], [0, 0.5, 1, 1.5]),
        ([1, 1, 1], [0, 0.5, 1, 1.5]),
        ([2, 3, 4], [0, 0.5, 1, 1.5]),
        ([1, 2, 2, 2], [0, 1 - 6 / 7, 1, 1.5]),
        ([1, 2, 3, 3, 3, 3, 3], [0, 1 - 2 / 3, 1, 1.5]),
    ],
)
def test_discounts_of_tiny_data_stay_valid(counts, expected):
    np.testing.assert_allclose(discounts(np.array(counts, dtype=np.int64)), expected)


def test_bad_tokens_are_refused():
    with pytest.raises(InputError, match="at least one training token"):
        KneserNey(3, V).fit(np.array([], dtype=np.int64))
    with pytest.raises(InputError, match="ids from 0 to 23, allowed are 0 to 22"):
        KneserNey(3, V).fit(np.array([0, 23]))
    with pytest.raises(InputError, match="ids from -1 to 3"):
        KneserNey(3, V).fit(np.array([0, 1])).score(np.array([3, -1]))


def test_arm_reports_what_it_did():
    train, dev = np.split(zipf_stream(600, seed=13), [500])
    fitted = KneserNeyArm(3, V).fit(train, dev, Budget(device=torch.device("cpu")), seed=0)
    assert (fitted.facts.stop_reason, fitted.facts.tokens_seen) == ("closed_form", 500)
    assert fitted.facts.dev_ppl == pytest.approx(np.exp(fitted.nll(dev).mean()))
    assert fitted.facts.train_ppl < fitted.facts.dev_ppl < V
    assert fitted.facts.total_params == fitted.facts.trained_params > 0
    assert fitted.score(dev).correct.shape == (99,)
    assert fitted.score_with_rank(dev, seed=0)[1] is None


def test_num_params_counts_heads_and_backoffs():
    # Seen: tokens 0, 1; pairs 01, 10. Contexts: the empty one, and 0 and 1 of the vocabulary of 4.
    assert KneserNey(2, 4).fit(np.array([0, 1, 0])).num_params == 2 + 1 + 2 + 2


@pytest.fixture(scope="module")
def file_order_split():
    config = DataConfig(split="tail", test_documents=60, test_tokens=31024, order="file")
    return open_dataset(config, lambda line: None)


@pytest.mark.parametrize(
    ("documents", "tokens"), [(50, 55_016), pytest.param(800, 877_284, marks=pytest.mark.long)]
)
def test_reference_perplexities_on_the_file_order_split(file_order_split, documents, tokens):
    reference = {50: {1: 765, 2: 271, 3: 264, 5: 263.5}, 800: {1: 677, 2: 145, 3: 124, 5: 123.0}}
    train, test = file_order_split.train(documents, seed=42).tokens, file_order_split.test.tokens
    assert (len(train), len(test)) == (tokens, 31_024)
    for order, ppl in reference[documents].items():
        nll, _ = KneserNey(order, file_order_split.vocab_size).fit(train).score(test)
        assert np.exp(nll.mean()) == pytest.approx(ppl, rel=0.01)


def test_order_comes_from_the_config():
    arm = make_arm(RunConfig.from_settings({"arm": "kneser-ney", "ngram.order": 2}), V)
    assert (arm.order, arm.vocab_size) == (2, V)


def test_undefined_discounts_are_a_fact_of_the_record():
    train = (
        np.arange(24) % 12
    )  # one word before each; pairs are seen twice, but for one, and none three times
    fitted = KneserNeyArm(2, 20).fit(train, train, Budget(torch.device("cpu")), 0)
    assert fitted.facts.notes == {"undefined_discounts": {"1": [1], "2": [2]}}
    counts = np.repeat([1, 2, 3, 4], [40, 20, 10, 6])
    assert undefined_discounts(counts) == () and (discounts(counts)[1:] > 0).all()
    assert undefined_discounts(np.array([1, 1, 2])) == (2,) and discounts(np.array([1, 1, 2]))[2] == 1.0
