"""One step of joint training, against its cell step by step under autograd, and against the LSTM arm.

All read a batch once; the second reading of the default recipe doubles every row.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.inputs import SEED, TABLE_STD, corpus_tokens
from benchmarks.limits import Limits
from benchmarks.table import Check, Row, checked, median_seconds, relative_error, row_per_token, synchronise
from cvfp.metrics.cost import model_cost, training_flops
from cvfp.models.cells import Cell
from cvfp.models.cvfp import CVFPModel
from cvfp.models.sequence import LstmLanguageModel
from cvfp.records.config import ModelConfig
from cvfp.records.training_config import JointConfig, LstmConfig
from cvfp.training.devices import BITS, usable
from cvfp.training.events import Event, Listener
from cvfp.training.joint import joint_parameters, learn_jointly
from cvfp.training.stepper import ADAM_EPS, BETA1
from cvfp.training.through_time import learn_through_time

STEPS = {"cpu": 41, "cuda": 201}
"""One more than whole tens: training reports every ten steps, and evaluates in the last."""
BOUNDS = {torch.float32: 1e-4, torch.bfloat16: 3e-2}
"""Relative error of all gradients of a chunk together, against float64."""


@dataclass(frozen=True)
class Size:
    """What is trained, and an LSTM with about as many parameters between table and head."""

    vocab_size: int
    shape: ModelConfig
    window: int
    chunks: int
    lstm_width_of_table: int
    lstm_layers: int


SIZES = {
    "cuda": Size(
        50_257, ModelConfig(cell="mogrified", context_dim=1024, token_layers=False), 16, 128, 768, 2
    ),
    "cpu": Size(
        2048,
        ModelConfig(cell="mogrified", context_dim=192, embed_dim=128, rounds=2, rank=32, token_layers=False),
        8,
        64,
        128,
        2,
    ),
}


def rows(device: torch.device, limits: Limits) -> Iterator[Row]:
    size = SIZES[device.type]
    batch = size.window * size.chunks
    tokens = corpus_tokens(2 * batch * STEPS[device.type], device) % size.vocab_size
    model = _model(size, device)
    precision = usable(JointConfig().precision, device)
    cost = model_cost(size.shape, size.vocab_size, output_bias=True)
    core = cost.context_block_params + cost.token_block_params
    name = f"joint: a step of {batch:,} tokens, V {size.vocab_size:,}, {core / 1e6:.2f}M core parameters"
    check = _check(name, model, tokens, size, BITS[precision])
    naive = _naive_seconds(copy.deepcopy(model), tokens, size)
    ours = _seconds(lambda listen: _train(copy.deepcopy(model), tokens, size, listen), device)
    flops = training_flops(cost.context_madds + cost.token_madds, cost.head_madds, batch, True)
    yield row_per_token(
        f"{name}, {precision}", batch, naive, ours, flops / ours / limits.flops[precision], check
    )
    lstm, parameters = _lstm(size, device)
    theirs = _seconds(lambda listen: _train_lstm(lstm, tokens, batch, listen), device)
    what = f"{name}, beside the LSTM arm's {parameters / 1e6:.2f}M, {precision}"
    yield row_per_token(what, batch, theirs, ours, None, check)


def _model(size: Size, device: torch.device) -> CVFPModel:
    torch.manual_seed(SEED)
    table = TABLE_STD * torch.randn(size.vocab_size, size.shape.embed_dim)
    return CVFPModel(size.shape, table, torch.zeros(size.vocab_size), frozen_table=False).to(device)


def _lstm(size: Size, device: torch.device) -> tuple[LstmLanguageModel, int]:
    torch.manual_seed(SEED)
    table = TABLE_STD * torch.randn(size.vocab_size, size.lstm_width_of_table)
    model = LstmLanguageModel(size.lstm_layers, table, torch.zeros(size.vocab_size)).to(device)
    return model, sum(parameter.numel() for parameter in model.core_parameters())


def _train(model: CVFPModel, tokens: Tensor, size: Size, listen: Listener) -> None:
    steps = STEPS[tokens.device.type]
    config = JointConfig(
        window=size.window, chunks=size.chunks, steps=steps, eval_every=steps, consistency=0.0
    )
    learn_jointly(model, tokens, tokens[:200], config, train_embedding=True, seed=SEED, listen=listen)


def _train_lstm(model: LstmLanguageModel, tokens: Tensor, batch: int, listen: Listener) -> None:
    steps, recipe = STEPS[tokens.device.type], JointConfig()
    config = LstmConfig(
        sequences=batch // 64,
        steps=steps,
        eval_every=steps,
        locked_dropout=True,
        dropout=recipe.dropout,
        word_dropout=recipe.word_dropout,
        averaging=recipe.averaging,
        consistency=0.0,
    )
    learn_through_time(model, tokens, tokens[:200], config, train_embedding=True, seed=SEED, listen=listen)


def _seconds(train: Callable[[Listener], None], device: torch.device) -> float:
    """Per step of a training, without its first ten steps and its evaluation at the end."""
    ends: list[float] = []

    def listen(event: Event) -> None:
        synchronise(device)
        if not event.values:
            ends.append(time.perf_counter())

    train(listen)
    return statistics.median(last - first for first, last in pairwise(ends)) / 10


def _naive_seconds(model: CVFPModel, tokens: Tensor, size: Size) -> float:
    """The same step as PyTorch does it by itself: in float32, one position after the other."""
    recipe = JointConfig()
    parameters = joint_parameters(model, train_embedding=True)
    optimizer = torch.optim.AdamW(
        parameters, lr=recipe.lr, betas=(BETA1, recipe.beta2), eps=ADAM_EPS, weight_decay=recipe.weight_decay
    )
    positions = _positions(tokens, size)
    start = tokens.new_zeros(size.chunks, model.state_dim, dtype=model.embedding.dtype)

    def step() -> None:
        optimizer.zero_grad()
        features = model.context_features(tokens, positions.flatten()).unflatten(0, positions.shape)
        contexts, _ = Cell.roll(model.context_block, features, start)
        logits = model.logits(model.projected(contexts[:, :, -1]).flatten(0, 1))
        F.cross_entropy(logits, tokens[positions.flatten() + 1]).backward()
        nn.utils.clip_grad_norm_(parameters, recipe.grad_clip)
        optimizer.step()

    return median_seconds(step, tokens.device)


def _positions(tokens: Tensor, size: Size) -> Tensor:
    """(T, S) of chunks side by side."""
    firsts = torch.arange(size.chunks, device=tokens.device) * size.window
    return firsts + torch.arange(size.window, device=tokens.device)[:, None]


def _check(what: str, model: CVFPModel, tokens: Tensor, size: Size, dtype: torch.dtype) -> Check:
    """Gradients of all matrices of the cell together, of a loss that weighs every context differently."""
    positions = _positions(tokens, size)[:, :32]
    features = model.context_features(tokens, positions.flatten()).detach().unflatten(0, positions.shape)
    weights = torch.randn(*positions.shape, 1, size.shape.context_dim, device=tokens.device)

    def gradients(cell: Cell, roll: Callable, like: torch.dtype) -> Tensor:
        start = features.new_zeros(32, cell.state_dim, dtype=like)
        contexts, _ = roll(cell, features.to(like), start)
        found = torch.autograd.grad((contexts * weights.to(contexts.dtype)).sum(), list(cell.parameters()))
        return torch.cat([each.flatten() for each in found])

    cell = model.context_block
    with torch.autocast(tokens.device.type, dtype, enabled=dtype != torch.float32):
        ours = gradients(cell, type(cell).roll, torch.float32)
    exact = gradients(copy.deepcopy(cell).double(), Cell.roll, torch.float64)
    return checked(what, relative_error(ours, exact), BOUNDS[dtype])
