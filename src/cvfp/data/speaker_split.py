"""Holding out whole speakers where a few of them speak in most documents."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csc_array

from cvfp.records.errors import InputError


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
    members = _membership(speakers)
    open_speakers = members.sum(axis=1)
    sizes = open_speakers.copy()
    available = np.ones(members.shape[1], dtype=bool)
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


def _membership(speakers: list[frozenset[str]]) -> csc_array:
    """(documents, speakers): 1 where the speaker speaks. A document without speakers is its own speaker."""
    named = [members if members else {f"\0{i}"} for i, members in enumerate(speakers)]
    columns = {name: column for column, name in enumerate(sorted(set().union(*named)))}
    pairs = [(row, columns[name]) for row, members in enumerate(named) for name in members]
    return csc_array(
        (np.ones(len(pairs)), np.array(pairs).T), shape=(len(named), len(columns)), dtype=np.float64
    )
