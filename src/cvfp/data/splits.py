"""Which documents train, which stop the training (dev), and which are reported (test)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.sparse import csc_array

from cvfp.records.config import DataConfig, derived_seed
from cvfp.records.errors import InputError

# --- Holding out whole speakers where a few of them speak in most documents.


def hold_out_speakers(
    speakers: list[frozenset[str]], num_held: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the documents that stay for training, and of `num_held` documents whose speakers do not.

    Speakers are held out one at a time, each time the one who completes the most documents (all speakers held
    out) less half of those newly mixed (a speaker held out, another not), ties by chance, until enough are
    complete. Drawing speakers evenly would instead mix nearly half of the documents of a corpus in which a
    few people talk to everybody. Mixed documents, and complete ones beyond `num_held`, are in neither part.

    Raises:
        InputError: not enough documents can be held out and still leave some to train on.
    """
    members, num_speakers = _membership(speakers)
    open_speakers = members.sum(axis=1)
    sizes = open_speakers.copy()
    available = np.ones(num_speakers, dtype=bool)
    while (open_speakers == 0).sum() < num_held and available.any():
        completed = (open_speakers == 1) @ members
        mixed = ((open_speakers == sizes) & (sizes > 1)) @ members
        score = np.where(available, completed - mixed / 2, -np.inf)
        best = generator.choice(np.flatnonzero(score == score.max()))
        available[best] = False
        open_speakers -= members[:, [best]].toarray()[:, 0]
    kept, complete = np.flatnonzero(open_speakers == sizes), np.flatnonzero(open_speakers == 0)
    if len(complete) < num_held or not len(kept):
        raise InputError(
            f"data.split speakers: {num_held} documents cannot be held out with all their speakers and leave "
            f"some to train on; ask for fewer dev and test documents"
        )
    return kept, generator.permutation(complete)[:num_held]


def _membership(speakers: list[frozenset[str]]) -> tuple[csc_array, int]:
    """((documents, speakers): 1 where the speaker speaks, how many speakers there are).

    A document without speakers is its own speaker.
    """
    named = [members if members else {f"\0{i}"} for i, members in enumerate(speakers)]
    columns = {name: column for column, name in enumerate(sorted(set().union(*named)))}
    pairs = [(row, columns[name]) for row, members in enumerate(named) for name in members]
    shape = len(named), len(columns)
    return csc_array((np.ones(len(pairs)), np.array(pairs).T), shape=shape, dtype=np.float64), len(columns)


# --- The splits, in documents.


PUBLISHED = range(1000, 1020)
"""The published protocol validates on these conversations of UltraChat."""
MIN_SOURCES = 3
"""One each for training, dev and test."""


@dataclass(frozen=True, eq=False)
class Split:
    """Indices of documents, in file order; pool and test share no document, nor pool and dev."""

    pool: np.ndarray
    """Training samples are drawn from these."""
    dev: np.ndarray
    test: np.ndarray
    copies: int = 0
    """Documents that are in no part since an earlier one has their text."""

    def dropped(self, num_documents: int) -> int:
        """Documents in no part, copies apart."""
        return num_documents - self.copies - len(np.union1d(np.union1d(self.pool, self.dev), self.test))


def split_documents(config: DataConfig, sources: np.ndarray, speakers: list[frozenset[str]] | None) -> Split:
    """Split the documents as `config.split` says; the same for every seed and size.

    `documents` draws dev and test with `split_seed`; `speakers` holds out whole speakers, so that nobody in
    dev or test is in training; `tail` takes the last documents as test and those before them as dev;
    `published` takes conversations 1000..1019 as both.

    Documents that are cut are held out whole, with all their pieces: the numbers of dev and test documents
    count sources. Where there are too few of them (`has_whole_sources`) every piece counts as a document, and
    `documents` is `tail`, so that at most one source lies on both sides of a border.

    Args:
        config: names the split and its sizes.
        sources: (N,) number of the source that every document is cut from, from 0 on, ascending.
        speakers: who speaks in every document; None where that is not known.

    Raises:
        InputError: too few documents, no known speakers, or sizes that the split does not have.
    """
    if not has_whole_sources(config, sources):
        return _tail(config, len(sources))
    firsts = np.unique(sources, return_index=True)[1]
    by_source = None if speakers is None else [speakers[first] for first in firsts]
    whole = _split_sources(config, len(firsts), by_source)
    pool, dev, test = (np.flatnonzero(np.isin(sources, part)) for part in (whole.pool, whole.dev, whole.test))
    return Split(pool, dev, test)


def split_parts(
    config: DataConfig, parts: np.ndarray, sources: np.ndarray, speakers: list[frozenset[str]] | None
) -> Split:
    """This is `split_documents` of several corpora: each gives dev and test documents in proportion to its
    size.

    A corpus of fewer than three documents gives none. Speakers are held out from all corpora together.

    Args:
        config: names the split and its sizes.
        parts: (N,) number of the corpus that every document is from, ascending.
        sources: (N,) as in `split_documents`.
        speakers: as there.

    Raises:
        InputError: as there; the published split of more than one corpus.
    """
    if parts[0] == parts[-1] or config.split == "speakers":
        return split_documents(config, sources, speakers)
    if config.split == "published":
        raise InputError("data.split published: it is of one corpus; use documents or tail")
    starts = [*np.unique(parts, return_index=True)[1].tolist(), len(parts)]
    within = [sources[start:end] - sources[start] for start, end in pairwise(starts)]
    units = [_num_units(config, own) for own in within]
    held = zip(*(_shares(total, units) for total in _checked_sizes(config, sum(units))), strict=True)
    splits = [
        split_documents(config.model_copy(update={"dev_documents": dev, "test_documents": test}), own, None)
        for own, (dev, test) in zip(within, held, strict=True)
    ]
    pools, devs, tests = (
        np.concatenate([start + getattr(split, name) for start, split in zip(starts, splits, strict=False)])
        for name in ("pool", "dev", "test")
    )
    return Split(pools, devs, tests)


def split_distinct(
    config: DataConfig,
    parts: np.ndarray,
    sources: np.ndarray,
    speakers: list[frozenset[str]] | None,
    digests: np.ndarray,
) -> Split:
    """This is `split_parts` of the documents whose text no earlier one has; the others are in no part.

    So no text is both trained on and tested on, and none counts twice. The published split is of all
    documents, which its protocol numbers.

    Args:
        config, parts, sources, speakers: as there.
        digests: (N,) equal for equal texts.

    Raises:
        InputError: as there.
    """
    if config.split == "published":
        return split_parts(config, parts, sources, speakers)
    kept = np.sort(np.unique(digests, return_index=True)[1])
    if len(kept) == len(digests):
        return split_parts(config, parts, sources, speakers)
    numbers = np.unique(sources[kept], return_inverse=True)[1]
    who = None if speakers is None else [speakers[document] for document in kept]
    found = split_parts(config, parts[kept], numbers, who)
    copies = len(digests) - len(kept)
    return Split(kept[found.pool], kept[found.dev], kept[found.test], copies)


def _num_units(config: DataConfig, sources: np.ndarray) -> int:
    """What of a corpus is held out as a whole: its sources, or their pieces."""
    return int(sources[-1]) + 1 if has_whole_sources(config, sources) else len(sources)


def _shares(total: int, units: list[int]) -> list[int]:
    """`total` in proportion to the units of those that have enough; remainders go to the largest ones."""
    weights = np.array([number if number >= MIN_SOURCES else 0 for number in units])
    if not weights.any():
        raise InputError(f"no corpus has {MIN_SOURCES} documents, of which some can be held out")
    exact = total * weights / weights.sum()
    shares = np.floor(exact).astype(int)
    shares[np.argsort(shares - exact, kind="stable")[: total - int(shares.sum())]] += 1
    return shares.tolist()


def has_whole_sources(config: DataConfig, sources: np.ndarray) -> bool:
    """Whether dev and test can be whole sources.

    False when one or two sources are cut into pieces and the split does not itself name what is held out.
    """
    num_sources = int(sources[-1]) + 1
    return (
        num_sources >= MIN_SOURCES or num_sources == len(sources) or config.split in ("speakers", "published")
    )


def split_sizes(config: DataConfig, num_documents: int) -> tuple[int, int]:
    """Numbers of dev and test documents; unset ones are min(100, 4%) and min(300, 12%), rounded up."""
    dev, test = config.dev_documents, config.test_documents
    return (
        min(100, math.ceil(0.04 * num_documents)) if dev is None else dev,
        min(300, math.ceil(0.12 * num_documents)) if test is None else test,
    )


def training_order(pool: np.ndarray, order: str, seed: int) -> np.ndarray:
    """The pool in the order whose prefixes are the training sets: of the file, or shuffled by `seed`."""
    if order == "file":
        return pool.copy()
    return np.random.default_rng(derived_seed(seed, "documents")).permutation(pool)


def training_documents(pool: np.ndarray, order: str, seed: int, num_samples: int) -> np.ndarray:
    """The first `num_samples` of `training_order`: sizes are nested within a seed.

    Raises:
        InputError: the pool has fewer.
    """
    if num_samples > len(pool):
        raise InputError(
            f"{num_samples} training documents asked for, but there are {len(pool)} in the training pool; "
            f"give smaller sizes (--samples)"
        )
    return training_order(pool, order, seed)[:num_samples]


def _split_sources(config: DataConfig, num_documents: int, speakers: list[frozenset[str]] | None) -> Split:
    """`split_documents` of documents that are not cut."""
    if config.split == "published":
        return _published(config, num_documents)
    if config.split == "tail":
        return _tail(config, num_documents)
    num_dev, num_test = _checked_sizes(config, num_documents)
    generator = np.random.default_rng(config.split_seed)
    if config.split == "speakers":
        if speakers is None:
            raise InputError("data.split speakers: not every document says who speaks in it; use documents")
        pool, held = hold_out_speakers(speakers, num_dev + num_test, generator)
    else:
        held = generator.permutation(num_documents)[: num_dev + num_test]
        pool = np.setdiff1d(np.arange(num_documents), held)
    return Split(pool, np.sort(held[:num_dev]), np.sort(held[num_dev : num_dev + num_test]))


def _tail(config: DataConfig, num_documents: int) -> Split:
    num_dev, num_test = _checked_sizes(config, num_documents)
    borders = [num_documents - num_dev - num_test, num_documents - num_test]
    pool, dev, test = np.split(np.arange(num_documents), borders)
    return Split(pool, dev, test)


def _checked_sizes(config: DataConfig, num_documents: int) -> tuple[int, int]:
    num_dev, num_test = split_sizes(config, num_documents)
    if num_dev + num_test >= num_documents:
        raise InputError(
            f"{num_dev} dev and {num_test} test documents (data.dev_documents, data.test_documents) leave "
            f"none to train on: the corpus has {num_documents} (what is cut from one file or record counts "
            f"once where there are {MIN_SOURCES} of them){_hint(config)}"
        )
    return num_dev, num_test


def _hint(config: DataConfig) -> str:
    if config.document_tokens is not None or config.document_separator is not None:
        return ""
    return "; data.document_separator, or e.g. data.document_tokens=1000, cuts long texts into documents"


def _published(config: DataConfig, num_documents: int) -> Split:
    for field in ("document_tokens", "document_separator"):
        if getattr(config, field) is not None:
            raise InputError(
                f"data.{field} does not apply: the published split has whole conversations; leave it out"
            )
    for field in ("dev_documents", "test_documents"):
        if getattr(config, field) is not None:
            raise InputError(
                f"data.{field} does not apply: the published split has 20 for both; leave it out"
            )
    if num_documents < PUBLISHED.stop:
        raise InputError(
            f"the published split needs at least {PUBLISHED.stop} documents, the corpus has {num_documents}"
        )
    held = np.array(PUBLISHED)
    return Split(np.setdiff1d(np.arange(num_documents), held), held, held)
