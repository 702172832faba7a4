"""What is measured on: the default corpus, and models of the default widths with an untrained token block."""

from __future__ import annotations

import functools
import sys

import numpy as np
import torch
from torch import Tensor

from cvfp.data.dataset import open_dataset
from cvfp.models.cvfp import CVFPModel
from cvfp.records.config import DataConfig, ModelConfig

SEED = 42
SAMPLES = 800
"""Training documents that the tokens are taken from: 980,223 tokens."""
VOCAB_SIZE = 50_257
TABLE_STD = 0.02


@functools.cache
def _corpus_tokens() -> np.ndarray:
    dataset = open_dataset(DataConfig(), lambda text: print(text, file=sys.stderr))
    return dataset.train(SAMPLES, SEED).tokens


def corpus_tokens(number: int, device: torch.device) -> Tensor:
    """The first tokens of the default corpus in the order of the seed."""
    return torch.from_numpy(_corpus_tokens()[:number]).to(device)


def make_model(context_dim: int, num_input_tokens: int, output_bias: bool, device: torch.device) -> CVFPModel:
    """One layer, d_e 768, V 50,257, initialised as a run's."""
    torch.manual_seed(SEED)
    config = ModelConfig(context_dim=context_dim, num_input_tokens=num_input_tokens)
    table = TABLE_STD * torch.randn(VOCAB_SIZE, config.embed_dim)
    bias = torch.zeros(VOCAB_SIZE) if output_bias else None
    return CVFPModel(config, table, bias).to(device)
