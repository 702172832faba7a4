"""What the tests of the models and of training share: tiny models, random tokens, a real text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cvfp.models.cvfp import CVFPModel
from cvfp.records.config import ModelConfig
from cvfp.records.training_config import Phase1Config
from cvfp.training.phase1 import learn_contexts

VOCABULARY = 40


def make_model(
    num_layers: int = 1,
    num_input_tokens: int = 1,
    context_dim: int = 24,
    embed_dim: int = 16,
    *,
    vocab_size: int = VOCABULARY,
    output_bias: bool = False,
    use_context: bool = True,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> CVFPModel:
    """A model with a random table, drawn with `seed`."""
    config = ModelConfig(
        num_layers=num_layers, num_input_tokens=num_input_tokens, context_dim=context_dim, embed_dim=embed_dim
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        table = torch.randn(vocab_size, embed_dim)
        bias = torch.randn(vocab_size) if output_bias else None
        return CVFPModel(config, table, bias, use_context).to(dtype)


def draw_tokens(count: int, seed: int = 0, vocab_size: int = VOCABULARY) -> Tensor:
    """(count,) uniform token ids."""
    return torch.randint(vocab_size, (count,), generator=torch.Generator().manual_seed(seed))


def train_contexts(model: CVFPModel, tokens: Tensor, iterations: int = 40, **settings) -> None:
    """A short phase 1 with the same number of steps whatever happens."""
    fixed = {"min_iterations": iterations, "max_iterations": iterations, "lr": 0.01, "precision": "float32"}
    learn_contexts(model, tokens, Phase1Config(**(fixed | settings)), seed=0)


def real_text() -> tuple[Tensor, int]:
    """The characters of the licence as token ids (runs of white space made one), and how many differ."""
    text = " ".join((Path(__file__).parents[1] / "LICENSE").read_text(encoding="utf-8").split())
    characters, ids = np.unique(list(text), return_inverse=True)
    return torch.from_numpy(ids.astype(np.int64)), len(characters)
