"""What every arm with a token table starts from."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cvfp.arms.base import Tokens
from cvfp.data.embeddings import load_table
from cvfp.records.config import RunConfig


def initial_table(config: RunConfig, vocab_size: int, seed: int) -> Tensor:
    """(V, d_e) the table that `embedding.source` names. Raises `InputError` for a bad one."""
    return torch.from_numpy(load_table(config.embedding, vocab_size, config.model.embed_dim, seed))


def initial_bias(config: RunConfig, train: Tokens, vocab_size: int) -> Tensor | None:
    """(V,) log unigram frequencies of the training tokens; None for an arm without an output bias."""
    return log_unigram(train, vocab_size) if config.embedding.output_bias else None


def log_unigram(tokens: Tokens, vocab_size: int) -> Tensor:
    """(V,) log frequencies of the tokens, every count raised by one."""
    counts = np.bincount(tokens, minlength=vocab_size) + 1.0
    return torch.from_numpy(np.log(counts / counts.sum())).float()
