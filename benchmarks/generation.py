"""Tokens per second of writing text, one sequence at a time: cvfp, an LSTM of its size, GPT-2 small.

    OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=1000 python -m benchmarks.generation --device cpu --tokens 100

Random weights, greedy unless said, after a prompt of 64 tokens. A rate is that of the tokens after the first
one, so neither the prompt nor setting up counts. The limit is what memory could deliver: the bytes of the
weights that a token reads, at the bandwidth of a large copy (read and written) measured in the same run.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.arguments import positive
from benchmarks.inputs import VOCAB_SIZE, make_model
from benchmarks.limits import Limits, describe, measure_limits
from benchmarks.table import Row, checked, markdown, relative_error, row_per_token, timed
from cvfp.models.cvfp import CVFPModel
from cvfp.models.generation import Stepper

WIDTH, PROMPT, TOKENS = 768, 64, {"cpu": 60, "cuda": 512}
ROUNDS = 5
BOUNDS = {torch.float32: 1e-5, torch.float16: 2e-3}
"""Relative error of logits, written token by token, against those of the whole stream."""


Write = Callable[[int], object]
"""Writes so many tokens after the prompt."""


@dataclass(frozen=True)
class Writer:
    """A contender; `weight_bytes` is what one token reads."""

    name: str
    write: Write
    weight_bytes: int


def size(tensors: Iterable[Tensor], dtype: torch.dtype = torch.float32) -> int:
    return sum(tensor.numel() for tensor in tensors) * dtype.itemsize


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def cvfp_writer(
    model: CVFPModel, prompt: Tensor, dtype: torch.dtype, temperature: float = 0.0, **settings
) -> Writer:
    """Weights read as `dtype`."""
    said = ", sampled" if temperature else ""
    said += "".join(f", {name} {value}" for name, value in settings.items())

    def write(tokens: int) -> list[int]:
        return list(model.generate(prompt, tokens, temperature, dtype=dtype, **settings))

    return Writer(f"cvfp 1L {WIDTH}d 2tok, {name_of(dtype)}{said}", write, size(model.parameters(), dtype))


def cvfp_writers(prompt: Tensor) -> Iterator[Writer]:
    model = make_model(WIDTH, 2, False, prompt.device)
    for dtype in BOUNDS:
        yield cvfp_writer(model, prompt, dtype)
        yield cvfp_writer(model, prompt, dtype, temperature=1.0)
    yield cvfp_writer(model, prompt, torch.float16, temperature=1.0, top_k=50)
    yield cvfp_writer(model, prompt, torch.float16, temperature=1.0, top_p=0.9)


def lstm_writer(prompt: Tensor) -> Writer:
    """One layer of `nn.LSTM` and a tied head, token by token as PyTorch's own examples do it."""
    table = nn.Embedding(VOCAB_SIZE, WIDTH, device=prompt.device)
    lstm = nn.LSTM(WIDTH, WIDTH, device=prompt.device)

    @torch.no_grad()
    def write(tokens: int) -> list[int]:
        outputs, state = lstm(table(prompt))
        written = []
        for _ in range(tokens):
            written.append((outputs[-1:] @ table.weight.T).argmax(dim=1))
            outputs, state = lstm(table(written[-1]), state)
        return torch.cat(written).tolist()

    return Writer(f"LSTM 1L {WIDTH}d, float32", write, size(lstm.parameters()) + size(table.parameters()))


def gpt2_writer(prompt: Tensor) -> Writer | None:
    """Hugging Face's GPT-2 small with its cache; None without transformers."""
    try:
        from transformers import GPT2Config, GPT2LMHeadModel
    except ImportError:
        return None
    model = GPT2LMHeadModel(GPT2Config()).to(prompt.device).eval()
    model.generation_config.eos_token_id = None
    ids, mask = prompt[None], torch.ones_like(prompt[None])

    def write(tokens: int) -> list[int]:
        settings = {"do_sample": False, "use_cache": True, "pad_token_id": 0}
        return model.generate(ids, attention_mask=mask, max_new_tokens=tokens, **settings)[0].tolist()

    positions = model.transformer.wpe.weight.numel() * 4
    return Writer("GPT-2 small (transformers), float32", write, size(model.parameters()) - positions)


def seconds_per_token(writes: list[Write], tokens: int, device: torch.device) -> list[float]:
    """What each token after the first one takes: the best of a few rounds, in which all take turns."""
    best = [math.inf] * len(writes)
    for write in writes:
        write(8)
    for _ in range(ROUNDS):
        for index, write in enumerate(writes):
            one, all_of_them = (timed(functools.partial(write, n), device)[1] for n in (1, tokens))
            best[index] = min(best[index], (all_of_them - one) / (tokens - 1))
    return best


def draw_prompt(number: int, device: torch.device) -> Tensor:
    return torch.randint(VOCAB_SIZE, (number,), generator=torch.Generator().manual_seed(0)).to(device)


def measure(device: torch.device, tokens: int) -> list[dict]:
    """One row per contender: tokens per second, bytes of weights per token, share of the bandwidth limit."""
    prompt, before = draw_prompt(PROMPT, device), measure_limits(device)
    print(f"{describe(device, before)}\n", flush=True)
    found = [*cvfp_writers(prompt), lstm_writer(prompt), gpt2_writer(prompt)]
    writers = [writer for writer in found if writer is not None]
    taken = seconds_per_token([writer.write for writer in writers], tokens, device)
    speed = max(before.copy_bytes, measure_limits(device).copy_bytes)
    rows = [
        {
            "writer": writer.name,
            "rate": 1 / seconds,
            "bytes": writer.weight_bytes,
            "share": writer.weight_bytes / speed / seconds,
        }
        for writer, seconds in zip(writers, taken, strict=True)
    ]
    missing = [{"writer": "GPT-2 small: transformers is not installed"}] if len(writers) < len(found) else []
    return rows + missing


def table_of(rows: list[dict]) -> str:
    """The rows in Markdown; ratios to the first one, cvfp in float32."""
    header = ("writer", "tokens/s", "of cvfp float32", "weights per token", "share of the limit")
    cells, first = [], rows[0]["rate"]
    for row in rows:
        if "rate" not in row:
            cells.append((row["writer"], *["–"] * 4))
            continue
        ratio, megabytes = row["rate"] / first, row["bytes"] / 1e6
        cells.append(
            (
                row["writer"],
                f"{row['rate']:,.1f}",
                f"{ratio:.2f}",
                f"{megabytes:.0f} MB",
                f"{row['share']:.0%}",
            )
        )
    return markdown(header, cells)


def rows(device: torch.device, limits: Limits) -> Iterator[Row]:
    """Writing against the same modules called token by token, as `python -m benchmarks` prints it."""
    model, prompt, tokens = (
        make_model(WIDTH, 2, False, device),
        draw_prompt(PROMPT, device),
        TOKENS[device.type],
    )
    writers = [cvfp_writer(model, prompt, dtype) for dtype in BOUNDS]
    writes = [functools.partial(write_by_modules, model, prompt), *(writer.write for writer in writers)]
    naive, *taken = seconds_per_token(writes, tokens, device)
    for (dtype, bound), writer, ours in zip(BOUNDS.items(), writers, taken, strict=True):
        what = f"writing greedily, one sequence, V 50,257, weights in {name_of(dtype)}"
        check = checked(what, logit_error(model, prompt, dtype), bound)
        yield row_per_token(what, 1, naive, ours, writer.weight_bytes / limits.copy_bytes / ours, check)


@torch.no_grad()
def write_by_modules(model: CVFPModel, prompt: Tensor, number: int) -> list[int]:
    """Greedy writing with the modules as they are, one row at a time."""
    tokens = torch.cat([prompt, prompt.new_zeros(number)])
    state = model.contexts(prompt[:-1])[-1, -1:]
    for last in range(len(prompt) - 1, len(tokens) - 1):
        position = torch.tensor([last], device=prompt.device)
        contexts = model.context_block(state, model.context_features(tokens, position))
        state = contexts[:, -1]
        tokens[last + 1] = model.logits(model.hidden(contexts, tokens, position)).argmax()
    return tokens[len(prompt) :].tolist()


@torch.inference_mode()
def logit_error(model: CVFPModel, tokens: Tensor, dtype: torch.dtype) -> float:
    """Logits after each token, stepped through from the first one, against those of the whole stream."""
    positions = torch.arange(len(tokens), device=tokens.device)
    expected = model.logits(model.hidden(model.contexts(tokens), tokens, positions))
    stepper, found = Stepper(model, tokens[:1], dtype), []
    for following in [*tokens[1:].split(1), tokens[:1]]:
        found.append(stepper.logits().clone())
        stepper.append(following)
    return relative_error(torch.stack(found), expected)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--tokens", type=positive, help="tokens written per repeat, at least 2")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    print(table_of(measure(device, arguments.tokens or TOKENS[device.type])))


if __name__ == "__main__":
    main()
