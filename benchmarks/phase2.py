"""One step of phase 2 (gradient, clip, Adam step), against PyTorch's cross-entropy in float32."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.inputs import SEED, corpus_tokens, make_model
from benchmarks.limits import Limits
from benchmarks.table import Check, Row, checked, median_seconds, relative_error, row_per_token, synchronise
from cvfp.metrics.cost import model_cost, phase2_flops
from cvfp.models.cvfp import CVFPModel
from cvfp.records.schema import Precision
from cvfp.records.training_config import Phase2Config
from cvfp.training.contexts import SpanContexts
from cvfp.training.devices import BITS, usable
from cvfp.training.events import Event
from cvfp.training.head import Head
from cvfp.training.phase2 import learn_tokens, trained_parameters
from cvfp.training.stepper import ADAM_EPS, BETA1

CASES = {
    "cpu": ((False, 512), (True, 512)),
    "cuda": ((False, 2048), (True, 2048), (False, 8192), (True, 8192)),
}
"""Whether the head is trained, and tokens per step."""
STEPS = {"cpu": 21, "cuda": 101}
"""One more than whole tens: training reports every ten steps, and evaluates in the last."""
CHECKED_ROWS = 256
BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 5e-3}
"""Relative error of each gradient of the head, and of the loss, against float64."""


def rows(device: torch.device, limits: Limits) -> Iterator[Row]:
    for trained, batch in CASES[device.type]:
        tokens = corpus_tokens(batch * STEPS[device.type] + 1, device)
        model = make_model(768, 2, trained, device)
        contexts = model.contexts(tokens)
        head = "trained with bias" if trained else "frozen without bias"
        name = f"phase 2: a step of {batch:,} tokens, V 50,257, d 768, n 2, head {head}"
        checks = {dtype: _check_head(f"{name}, {dtype}", model, tokens, contexts, dtype) for dtype in BOUNDS}
        naive = _naive_seconds(copy.deepcopy(model), tokens, contexts, trained, batch)
        cost = model_cost(model.config, model.vocab_size, trained)
        flops = phase2_flops(cost, batch, trained)
        for precision in _precisions(device):
            ours = _seconds(copy.deepcopy(model), tokens, trained, batch, precision)
            share = flops / ours / limits.flops[precision]
            yield row_per_token(f"{name}, {precision}", batch, naive, ours, share, checks[BITS[precision]])


def _precisions(device: torch.device) -> list[Precision]:
    """float32, and the default where that is another."""
    return list(dict.fromkeys(["float32", usable(Phase2Config().precision, device)]))


def _seconds(model: CVFPModel, tokens: Tensor, trained: bool, batch: int, precision: Precision) -> float:
    """Per step of a training, without its first ten steps and its evaluation at the end."""
    ends: list[float] = []

    def listen(event: Event) -> None:
        synchronise(tokens.device)
        if not event.values:
            ends.append(time.perf_counter())

    config = Phase2Config(epochs=1, batch_size=batch, eval_every=None, precision=precision)
    learn_tokens(
        model,
        tokens,
        SpanContexts(model, tokens),
        tokens[:2],
        config,
        train_embedding=trained,
        seed=SEED,
        listen=listen,
    )
    return statistics.median(last - first for first, last in pairwise(ends)) / 10


def _naive_seconds(model: CVFPModel, tokens: Tensor, contexts: Tensor, trained: bool, batch: int) -> float:
    model.requires_grad_(False)
    parameters = trained_parameters(model, trained)
    for parameter in parameters:
        parameter.requires_grad_(True)
    config = Phase2Config()
    optimizer = torch.optim.AdamW(
        parameters, lr=config.lr, betas=(BETA1, config.beta2), eps=ADAM_EPS, weight_decay=config.weight_decay
    )
    order = torch.randperm(len(tokens) - 1, device=tokens.device)

    def step() -> None:
        positions = order[:batch]
        optimizer.zero_grad()
        logits = model.logits(model.hidden(contexts[positions], tokens, positions))
        F.cross_entropy(logits, tokens[positions + 1]).backward()
        nn.utils.clip_grad_norm_(parameters, config.grad_clip)
        optimizer.step()

    return median_seconds(step, tokens.device)


@torch.no_grad()
def _check_head(what: str, model: CVFPModel, tokens: Tensor, contexts: Tensor, dtype: torch.dtype) -> Check:
    positions = torch.arange(CHECKED_ROWS, device=tokens.device)
    hidden, targets = model.hidden(contexts[positions], tokens, positions), tokens[positions + 1]
    weights = torch.full((CHECKED_ROWS,), 1 / CHECKED_ROWS, device=tokens.device)
    with_bias = model.output_bias is not None
    head = Head(model.embedding, model.output_bias, dtype)
    readings = [hidden, hidden + hidden.roll(1, 0) / 4]
    table = [model.embedding, *([model.output_bias] if with_bias else [])]
    worst = 0.0
    for count in (1, 2):
        found = head.gradients(readings[:count], targets, weights, True, with_bias, consistency=1.0)
        leaves = [leaf.detach().double().requires_grad_() for leaf in (*readings[:count], *table)]
        with torch.enable_grad():
            logits = [F.linear(one, *leaves[count:]) for one in leaves[:count]]
            loss = sum(F.cross_entropy(one, targets) for one in logits) / count
            logs = [one.log_softmax(dim=1) for one in logits]
            apart = ((logs[0].exp() - logs[-1].exp()) * (logs[0] - logs[-1])).sum(dim=1).mean() / 2
        exact = [loss, *torch.autograd.grad(loss + apart, leaves)]
        pairs = zip((found.loss, *found.hidden, found.table, found.bias), exact, strict=False)
        worst = max(worst, *(relative_error(one, other) for one, other in pairs))
    return checked(what, worst, BOUNDS[dtype])
