"""Claims: every step writes from the logits of the definition, with a state of constant size; sampling takes
from the right tokens, repeats by seed, and leaves the global generator alone."""

from __future__ import annotations

import itertools

import pytest
import torch
from model_helpers import VOCABULARY, draw_tokens, make_model
from torch import Tensor

from cvfp.models import recurrence
from cvfp.models.cvfp import CVFPModel
from cvfp.models.generation import BLOCK, Sampling, Stepper, generate
from cvfp.records.errors import InputError

BOUND = {torch.float32: 1e-5, torch.float64: 1e-10}
SHAPES = list(itertools.product((1, 2), (1, 2, 3)))


def defined_logits(model: CVFPModel, tokens: Tensor) -> Tensor:
    """(N, V): logits after every token, from the whole stream at once."""
    with torch.no_grad():
        contexts = model.contexts(tokens)
        return model.logits(model.hidden(contexts, tokens, torch.arange(len(tokens))))


def stepped_logits(model: CVFPModel, tokens: Tensor, prompt: int, dtype: torch.dtype | None = None) -> Tensor:
    """As `defined_logits`, of the positions from the last one of the prompt, token by token."""
    with torch.inference_mode():
        stepper, rows = Stepper(model, tokens[:prompt], dtype), []
        for token in [*tokens[prompt:].split(1), None]:
            rows.append(stepper.logits().clone())
            if token is not None:
                stepper.append(token)
    return torch.stack(rows)


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("use_context", [True, False])
@pytest.mark.parametrize("prompt", [1, 2, 20])
@pytest.mark.parametrize(("num_layers", "num_input_tokens"), SHAPES)
def test_logits_of_every_step_equal_the_definition(num_layers, num_input_tokens, prompt, use_context, dtype):
    for bias in (False, True):
        model = make_model(
            num_layers, num_input_tokens, output_bias=bias, use_context=use_context, dtype=dtype
        )
        with torch.no_grad():
            model.embedding.mul_(0.4)  # logits of usual size; and, as after phase 2, two different tables
        tokens = draw_tokens(40)
        expected = defined_logits(model, tokens)[prompt - 1 :]
        assert (stepped_logits(model, tokens, prompt) - expected).abs().max() <= BOUND[dtype]


@pytest.mark.parametrize("vocab_size", [3, 16, 50])
def test_any_number_of_rows_is_multiplied_out(vocab_size):
    """Products are cut into slices of equal height: fewer rows than slices, no rest, a rest."""
    model, tokens = make_model(vocab_size=vocab_size, context_dim=5), draw_tokens(12, vocab_size=vocab_size)
    expected = defined_logits(model, tokens)[3:]
    torch.testing.assert_close(stepped_logits(model, tokens, 4), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_narrow_weights_change_logits_by_a_bounded_share_of_their_spread(dtype, num_layers):
    """In units of the type's rounding (2^-11 or 2^-8), over 200 tokens of one state: 4 (rms), at most 50."""
    model = make_model(num_layers, 2, 96, 64, vocab_size=500, output_bias=True)
    tokens = draw_tokens(200, vocab_size=500)
    expected = defined_logits(model, tokens)
    unit = torch.finfo(dtype).eps / 2 * expected.std()
    errors = (stepped_logits(model, tokens, 1, dtype) - expected) / unit
    assert errors.square().mean().sqrt() <= 4 and errors.abs().max() <= 50


@pytest.mark.parametrize("use_context", [True, False])
def test_greedy_is_the_argmax_of_the_definition(use_context):
    model, prompt = make_model(2, 2, use_context=use_context), draw_tokens(7)
    tokens = prompt
    for _ in range(3 * BLOCK + 5):
        tokens = torch.cat([tokens, defined_logits(model, tokens)[-1:].argmax(dim=1)])
    assert list(generate(model, prompt, 3 * BLOCK + 5, temperature=0.0)) == tokens[7:].tolist()


def test_top_k_of_one_and_a_tiny_top_p_or_temperature_are_greedy():
    model, prompt = make_model(1, 2), draw_tokens(7)
    greedy = list(model.generate(prompt, 30, temperature=0.0))
    for settings in ({"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-30}):
        assert list(model.generate(prompt, 30, seed=3, **settings)) == greedy


def allowed_by_hand(logits: Tensor, sampling: Sampling) -> set[int]:
    """Go down the tokens from the likeliest one; stop after k, or once p has been reached."""
    order = logits.argsort(descending=True).tolist()[: sampling.top_k]
    weights = [float(torch.exp(logits[token] / sampling.temperature)) for token in order]
    kept, reached = set(), 0.0
    for token, weight in zip(order, weights, strict=True):
        if sampling.top_p is not None and reached >= sampling.top_p:
            break
        kept.add(token)
        reached += weight / sum(weights)
    return kept


@pytest.mark.parametrize("top_k", [None, 1, 6, 100])
@pytest.mark.parametrize("top_p", [None, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_sampling_takes_all_of_the_right_tokens_and_no_other(top_k, top_p, temperature):
    """Numbers that lie evenly in [0, 1) hit each token as often as its probability among those kept says."""
    logits = torch.randn(20, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) / 2
    sampling = Sampling(temperature, top_k, top_p)
    uniforms = (torch.arange(2_000, dtype=torch.float64) + 0.5) / 2_000
    drawn = torch.cat([sampling.choose(logits, uniform) for uniform in uniforms.split(1)])
    kept = allowed_by_hand(logits, sampling)
    assert set(drawn.tolist()) == kept
    chances = torch.softmax(logits / temperature, dim=0)
    chances *= torch.tensor([token in kept for token in range(20)])
    shares = torch.bincount(drawn, minlength=20) / 2_000
    torch.testing.assert_close(shares.double(), chances / chances.sum(), atol=1e-3, rtol=0)


def test_the_ends_of_the_unit_interval_hit_tokens_that_can_happen():
    logits = torch.tensor([-1e9, 1.0, 2.0, -1e9])
    last = 1 - 2.0**-53
    drawn = [int(Sampling().choose(logits, torch.tensor([u], dtype=torch.float64))) for u in (0.0, last)]
    assert drawn == [1, 2]


def test_a_seed_repeats_and_the_global_generator_is_not_touched():
    model, prompt = make_model(1, 2), draw_tokens(7)
    before = torch.get_rng_state()
    first, again, other = (list(generate(model, prompt, 50, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert first == again != other
    assert first[:20] == list(generate(model, prompt, 20, seed=1))


def test_streams_do_not_disturb_each_other_nor_the_gradients_of_their_reader():
    model, prompt = make_model(1, 2), draw_tokens(7)
    stream = generate(model, prompt, 5)
    first = next(stream)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert list(generate(model, prompt, 5)) == [first, *stream]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_state_stays_as_large_as_it_was(monkeypatch):
    """d_c numbers and n ids, in the same places, however much is written; the prompt alone is solved."""
    model = make_model(2, 3)
    with torch.inference_mode():
        stepper = Stepper(model, draw_tokens(5))
        monkeypatch.setattr(CVFPModel, "solve_contexts", None)

        def places() -> list[tuple]:
            state = (stepper.cell_state, stepper.window)
            return [(id(tensor), tensor.data_ptr(), tensor.shape) for tensor in state]

        held = places()
        assert [shape for *_, shape in held] == [(24,), (3,)]
        for _ in range(100):
            stepper.append(stepper.logits().argmax(dim=0, keepdim=True))
        assert places() == held


def test_the_context_of_the_prompt_is_solved_not_rolled_out(monkeypatch):
    solved, solve = [], CVFPModel.solve_contexts

    def spy(model, tokens, positions, start):
        solved.append(len(positions))
        return solve(model, tokens, positions, start)

    monkeypatch.setattr(CVFPModel, "solve_contexts", spy)
    monkeypatch.setattr(recurrence, "roll_out", None)
    Stepper(make_model(), draw_tokens(500))
    assert solved == [499]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": torch.zeros(0, dtype=torch.long)}, "prompt is empty"),
        ({"prompt": torch.tensor([1, VOCABULARY])}, f"token {VOCABULARY} .* 0 to {VOCABULARY - 1}"),
        ({"prompt": torch.tensor([-1, 1])}, "token -1"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
    ],
)
def test_wrong_input_is_one_clear_line_before_anything_is_written(settings, message):
    with pytest.raises(InputError, match=message) as error:
        make_model().generate(**({"prompt": draw_tokens(3), "max_new_tokens": 4} | settings))
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {}, {"top_k": 5}, {"top_p": 0.5}])
@pytest.mark.parametrize("use_context", [True, False])
def test_a_recorded_step_writes_what_the_cpu_writes(use_context, settings):
    model, prompt = make_model(2, 2, use_context=use_context, dtype=torch.float64), draw_tokens(7)
    expected = list(model.generate(prompt, 2 * BLOCK + 3, **settings))
    assert list(model.to("cuda").generate(prompt, 2 * BLOCK + 3, **settings)) == expected
