import numpy as np
import pytest
from data_helpers import refusal
from fuzz_helpers import tried
from hypothesis import given
from hypothesis import strategies as st

from cvfp.data.splits import split_documents, training_documents, training_order
from cvfp.records.config import DataConfig, derived_seed


def split(num_documents, speakers=None, **options):
    return split_documents(DataConfig(**options), np.arange(num_documents), speakers)


def split_pieces(sources, speakers=None, **options):
    return split_documents(DataConfig(**options), np.asarray(sources), speakers)


def social_speakers(count: int, seed: int) -> list[frozenset[str]]:
    """Pairs in which a few people talk to everybody."""
    generator = np.random.default_rng(seed)
    weights = 1 / np.arange(1, 201)
    people = [f"p{i}" for i in range(200)]
    return [
        frozenset(generator.choice(people, 2, replace=False, p=weights / weights.sum())) for _ in range(count)
    ]


@tried(60)
@given(st.integers(3, 4000), st.integers(0, 5), st.sampled_from(["documents", "tail"]))
def test_parts_are_disjoint_and_together_all_documents(num_documents, split_seed, mode):
    parts = split(num_documents, split=mode, split_seed=split_seed)
    together = np.concatenate([parts.pool, parts.dev, parts.test])
    assert sorted(together.tolist()) == list(range(num_documents))
    assert parts.dropped(num_documents) == 0


@pytest.mark.parametrize(
    ("num_documents", "dev", "test"), [(2607, 100, 300), (1000, 40, 120), (26, 2, 4), (3, 1, 1)]
)
def test_default_sizes_are_4_and_12_percent_rounded_up_to_a_limit(num_documents, dev, test):
    parts = split(num_documents)
    assert (len(parts.dev), len(parts.test)) == (dev, test)


def test_the_draw_depends_on_the_split_seed_alone():
    first, again, other = split(500), split(500, order="file", num_samples=7), split(500, split_seed=1)
    assert first.test.tolist() == again.test.tolist()
    assert first.test.tolist() != other.test.tolist()


def test_tail_takes_the_last_documents():
    parts = split(100, split="tail", test_documents=10, dev_documents=5)
    assert parts.test.tolist() == list(range(90, 100))
    assert parts.dev.tolist() == list(range(85, 90))
    assert parts.pool.tolist() == list(range(85))


def test_published_validates_on_conversations_1000_to_1019_which_never_train():
    parts = split(1500, split="published")
    assert parts.dev.tolist() == parts.test.tolist() == list(range(1000, 1020))
    assert len(parts.pool) == 1480 and not np.intersect1d(parts.pool, parts.test).size


def test_published_needs_1020_documents_and_its_own_sizes():
    assert "1020" in refusal(split, 1019, split="published")
    assert "test_documents" in refusal(split, 2000, split="published", test_documents=5)


@pytest.mark.parametrize("seed", range(5))
def test_nobody_who_is_held_out_speaks_in_training(seed):
    speakers = social_speakers(600, seed)
    parts = split(600, speakers, split="speakers", split_seed=seed)
    held = set().union(*(speakers[i] for i in np.concatenate([parts.dev, parts.test])))
    trained = set().union(*(speakers[i] for i in parts.pool))
    assert not held & trained
    assert (len(parts.dev), len(parts.test)) == (24, 72)
    assert not np.intersect1d(parts.dev, parts.test).size
    assert parts.dropped(600) == 600 - len(parts.pool) - 96


def pool_when_speakers_are_drawn_evenly(speakers, num_held: int, seed: int) -> int:
    held: set[str] = set()
    for name in np.random.default_rng(seed).permutation(sorted(set().union(*speakers))):
        held.add(str(name))
        if sum(members <= held for members in speakers) >= num_held:
            return sum(not members & held for members in speakers)
    raise AssertionError("everybody is held out")


def test_holding_out_speakers_keeps_more_to_train_on_than_drawing_them_evenly():
    speakers = social_speakers(600, 0)
    kept = len(split(600, speakers, split="speakers").pool)
    assert kept > max(pool_when_speakers_are_drawn_evenly(speakers, 96, seed) for seed in range(5))


def test_holding_out_speakers_is_repeatable_and_follows_the_split_seed():
    speakers = social_speakers(300, 1)
    parts = [split(300, speakers, split="speakers", split_seed=seed) for seed in (0, 0, 1)]
    assert parts[0].test.tolist() == parts[1].test.tolist() != parts[2].test.tolist()


def test_speakers_cannot_be_held_out_where_one_speaks_in_all_documents():
    speakers = [frozenset({"host", f"guest {i}"}) for i in range(50)]
    assert "held out" in refusal(split, 50, speakers, split="speakers")


def test_unknown_speakers_cannot_be_held_out():
    assert "speaks" in refusal(split, 50, None, split="speakers")


@tried(60)
@given(
    st.lists(st.integers(1, 9), min_size=3, max_size=200),
    st.integers(0, 5),
    st.sampled_from(["documents", "tail"]),
)
def test_no_source_has_pieces_in_two_parts(pieces, split_seed, mode):
    sources = np.repeat(np.arange(len(pieces)), pieces)
    parts = split_pieces(sources, split=mode, split_seed=split_seed)
    pool, dev, test = (set(sources[part].tolist()) for part in (parts.pool, parts.dev, parts.test))
    assert pool and dev and test
    assert not pool & dev and not pool & test and not dev & test
    assert parts.dropped(len(sources)) == 0
    whole = split(len(pieces), split=mode, split_seed=split_seed)
    assert (pool, dev, test) == tuple(set(part.tolist()) for part in (whole.pool, whole.dev, whole.test))


def test_speakers_are_held_out_with_all_pieces_of_their_documents():
    speakers, sources = social_speakers(300, 2), np.repeat(np.arange(300), 3)
    parts = split_pieces(sources, [speakers[source] for source in sources], split="speakers")
    assert len(parts.test) == 3 * 36 and len(parts.dev) == 3 * 12
    assert not set(sources[parts.test].tolist()) & set(sources[parts.dev].tolist())
    held = set().union(*(speakers[sources[i]] for i in [*parts.dev, *parts.test]))
    assert not held & set().union(*(speakers[sources[i]] for i in parts.pool))


@pytest.mark.parametrize("sources", [[0] * 50, [0] * 20 + [1] * 30])
def test_the_end_is_held_out_where_one_or_two_sources_are_cut(sources):
    for split_seed in (0, 1):
        parts = split_pieces(sources, split_seed=split_seed)
        assert parts.pool.tolist() == list(range(42))
        assert parts.dev.tolist() == [42, 43] and parts.test.tolist() == list(range(44, 50))


def test_published_conversations_stay_whole():
    assert "document_tokens" in refusal(split, 2000, split="published", document_tokens=100)


def test_training_sets_are_nested_within_a_seed_and_differ_between_seeds():
    pool = np.arange(10, 200)
    sets = [training_documents(pool, "shuffled", 3, size) for size in (5, 50, 190)]
    assert sets[0].tolist() == sets[1][:5].tolist() and sets[1].tolist() == sets[2][:50].tolist()
    assert sorted(sets[2].tolist()) == pool.tolist()
    assert training_order(pool, "shuffled", 4)[:5].tolist() != sets[0].tolist()


def test_the_order_of_documents_has_a_seed_of_its_own():
    expected = np.random.default_rng(derived_seed(3, "documents")).permutation(50)
    assert training_order(np.arange(50), "shuffled", 3).tolist() == expected.tolist()
    assert expected.tolist() != np.random.default_rng(3).permutation(50).tolist()


def test_file_order_is_the_same_for_every_seed():
    pool = np.arange(10, 200)
    assert training_documents(pool, "file", 3, 4).tolist() == [10, 11, 12, 13]
    assert pool.tolist() == training_order(pool, "file", 8).tolist()


def test_more_samples_than_documents_says_how_many_there_are():
    line = refusal(training_documents, np.arange(40), "shuffled", 0, 41)
    assert "41" in line and "40" in line


def test_too_few_documents_say_how_many_there_are():
    assert "2" in refusal(split, 2)
    assert "50" in refusal(split, 50, dev_documents=20, test_documents=30)
