"""Claims: in transformers a CVFP model is what it is natively, batched and padded, in every way to generate;
what the one side saves the other loads; what cannot be is refused in one line."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
from lab_helpers import checkpoint_of
from model_helpers import VOCABULARY, draw_tokens, make_model
from torch import Tensor

pytest.importorskip("transformers")

from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    TextIteratorStreamer,
    TextStreamer,
    pipeline,
)

from cvfp.hf import CvfpConfig, CvfpForCausalLM
from cvfp.models.cells import ContextBlock
from cvfp.models.cvfp import CVFPModel, outputs_of_rows
from cvfp.records.errors import InputError

BOUND = {torch.float32: 1e-5, torch.float64: 1e-10}
SHAPES = {
    "small": {},
    "two layers, three tokens": {"num_layers": 2, "num_input_tokens": 3, "output_bias": True},
    "no context": {"num_input_tokens": 2, "use_context": False},
}


def native(dtype: torch.dtype = torch.float64, **shape) -> CVFPModel:
    """With logits of usual size and, as after phase 2, two different tables."""
    model = make_model(**({"num_input_tokens": 2} | shape), dtype=dtype).eval()
    with torch.no_grad():
        model.embedding.mul_(0.4)
    return model


@torch.no_grad()
def native_logits(model: CVFPModel, tokens: Tensor) -> Tensor:
    return model.logits(model.hidden(model.contexts(tokens), tokens, torch.arange(len(tokens))))


def close(found: Tensor, expected: Tensor) -> None:
    """Equal but for rounding: tensors out of a file are not aligned as others are."""
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def loaded(model: CVFPModel, folder: Path) -> CvfpForCausalLM:
    model.save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder)


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[CVFPModel, CvfpForCausalLM]:
    model = native(num_layers=2, num_input_tokens=3, output_bias=True)
    return model, loaded(model, tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def checkpoint(whole: Path) -> Path:
    """Of a sweep: a model that was trained, with its tokenizer."""
    return checkpoint_of(whole)


def padded(texts: list[Tensor], side: str) -> tuple[Tensor, Tensor]:
    """Ids and mask; what fills the rows is no token at all."""
    length = max(map(len, texts))
    ids, mask = torch.full((len(texts), length), VOCABULARY + 7), torch.zeros(len(texts), length).long()
    for row, text in enumerate(texts):
        at = slice(length - len(text), None) if side == "left" else slice(len(text))
        ids[row, at], mask[row, at] = text, 1
    return ids, mask


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_auto_classes_load_a_native_checkpoint_with_the_native_logits(shape, dtype, tmp_path):
    model, tokens = native(dtype, **shape), draw_tokens(400)
    wrapped = loaded(model, tmp_path)
    assert isinstance(wrapped, CvfpForCausalLM) and not wrapped.training and wrapped.dtype == dtype
    with torch.no_grad():
        logits = wrapped(tokens[None]).logits
    assert (logits[0] - native_logits(model, tokens)).abs().max() <= BOUND[dtype]


@pytest.mark.parametrize("lengths", [(300, 170, 1), (40, 39, 3)])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_rows_of_a_padded_batch_have_the_logits_they_have_alone(shape, side, lengths, tmp_path):
    model = native(**shape)
    wrapped, texts = loaded(model, tmp_path), [draw_tokens(length, seed=length) for length in lengths]
    ids, mask = padded(texts, side)
    with torch.no_grad():
        output = wrapped(ids, attention_mask=mask)
        for row, text in enumerate(texts):
            alone = wrapped(text[None])
            found = output.logits[row][mask[row] == 1]
            assert (found - native_logits(model, text)).abs().max() <= 1e-10
            assert (output.cache.state[row] - alone.cache.state[0]).abs().sum() <= 1e-9
            assert torch.equal(output.cache.window[row], alone.cache.window[0])
            if side == "right":  # so that the last position gives the next token on either side
                assert torch.equal(output.logits[row, -1], found[-1])


def test_padding_between_tokens_is_no_part_of_the_text(pair):
    model, wrapped = pair
    text, mask = draw_tokens(30), torch.ones(1, 40)
    mask[0, [0, 5, 6, 20, 33, 34, 35, 36, 38, 39]] = 0
    ids = torch.zeros(1, 40, dtype=torch.long)
    ids[mask == 1] = text
    with torch.no_grad():
        logits = wrapped(ids, attention_mask=mask).logits
    assert (logits[mask == 1] - native_logits(model, text)).abs().max() <= 1e-10


def test_a_text_read_in_pieces_is_the_text_read_at_once(pair):
    model, wrapped = pair
    text, cache, parts = draw_tokens(200), None, []
    with torch.no_grad():
        for piece in text.split([1, 3, 150, 1, 1, 44]):
            output = wrapped(piece[None], cache=cache)
            cache = output.cache
            assert [cache.state.shape, cache.window.shape] == [(1, 24), (1, 3)]
            parts.append(output.logits[0])
    assert cache.get_seq_length() == 200
    assert (torch.cat(parts) - native_logits(model, text)).abs().max() <= 1e-10


def test_parts_that_memory_needs_change_nothing(pair, monkeypatch):
    _, wrapped = pair
    ids, mask = padded([draw_tokens(100), draw_tokens(31, seed=1)], "left")
    with torch.no_grad():
        whole = wrapped(ids, attention_mask=mask)
        monkeypatch.setattr("cvfp.models.cvfp.SEGMENT", {"cpu": 62})
        parts = wrapped(ids, attention_mask=mask)
    assert (whole.logits - parts.logits).abs().max() <= 1e-10
    assert (whole.cache.state - parts.cache.state).abs().max() <= 1e-10


def test_texts_side_by_side_are_rolled_out_in_lockstep():
    """32 texts of 100 tokens: about 100 steps and a check, not 3,200."""
    block, steps = native(dtype=torch.float32).context_block, []
    step = block.step
    block.step = lambda c, z: steps.append(len(c)) or step(c, z)
    outputs_of_rows(block, torch.randn(32, 100, 32), torch.zeros(32, 24))
    assert len(steps) <= 120 and set(steps) == {32}


def test_the_loss_is_the_mean_cross_entropy_of_the_next_labels(pair):
    model, wrapped = pair
    text = draw_tokens(50)
    labels = text.clone()
    labels[:10] = -100
    found = wrapped(text[None], labels=labels[None]).loss
    logits = native_logits(model, text)
    assert found.item() == pytest.approx(
        torch.nn.functional.cross_entropy(logits[9:-1], text[10:]).item(), abs=1e-6
    )


@torch.no_grad()
@pytest.mark.parametrize("marked", [True, False], ids=["padding is -100", "padding has labels"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_loss_of_a_padded_batch_is_that_of_its_texts(shape, side, marked, tmp_path):
    model = native(**shape)
    wrapped, texts = loaded(model, tmp_path), [draw_tokens(length, seed=length) for length in (30, 17, 2, 1)]
    ids, mask = padded(texts, side)
    labels = ids.masked_fill(mask == 0, -100) if marked else ids % VOCABULARY
    nats = [
        torch.nn.functional.cross_entropy(native_logits(model, text)[:-1], text[1:], reduction="sum")
        for text in texts
    ]
    right = sum(nats).item() / sum(len(text) - 1 for text in texts)
    assert wrapped(ids, attention_mask=mask, labels=labels).loss.item() == pytest.approx(right, abs=1e-6)
    singles = [wrapped(text[None], labels=text[None]).loss.item() * (len(text) - 1) for text in texts[:3]]
    assert sum(singles) / 46 == pytest.approx(right, abs=1e-6)


@torch.no_grad()
def test_the_loss_of_a_text_with_padding_inside_is_that_of_the_text(pair):
    model, wrapped = pair
    text, mask = draw_tokens(30), torch.ones(1, 40)
    mask[0, [0, 1, 5, 6, 7, 20, 33, 34, 38, 39]] = 0
    ids = torch.zeros(1, 40, dtype=torch.long)
    ids[mask == 1] = text
    right = torch.nn.functional.cross_entropy(native_logits(model, text)[:-1], text[1:]).item()
    assert wrapped(ids, attention_mask=mask, labels=ids).loss.item() == pytest.approx(right, abs=1e-6)


def test_a_loss_trains_what_phase_2_trains(tmp_path):
    """Gradients of the token block, the embedding and the bias; the contexts stay as they are."""
    wrapped = loaded(native(output_bias=True), tmp_path / "before").train()
    tokens = draw_tokens(60)[None]
    contexts = wrapped.model.contexts(tokens[0])
    wrapped(tokens, labels=tokens).loss.backward()
    frozen = {name for name, parameter in wrapped.named_parameters() if not parameter.requires_grad}
    assert frozen and all("context_block" in name for name in frozen)
    for name, parameter in wrapped.named_parameters():
        assert (parameter.grad is None) == (name in frozen)
        assert name in frozen or parameter.grad.abs().sum() > 0
    torch.optim.SGD([p for p in wrapped.parameters() if p.requires_grad], lr=1.0).step()
    close(wrapped.model.contexts(tokens[0]), contexts)
    wrapped.eval().save_pretrained(tmp_path / "after")
    again = CVFPModel.from_pretrained(tmp_path / "after")
    with torch.no_grad():
        close(native_logits(again, tokens[0]), native_logits(wrapped.model, tokens[0]))
    assert not torch.equal(again.embedding, again.context_table)


def test_contexts_stay_exact_under_autocast(tmp_path):
    """What trains in bfloat16 reads the contexts that phase 2 reads."""
    wrapped, tokens = loaded(native(torch.float32), tmp_path), draw_tokens(60)[None]
    exact = wrapped(tokens).cache.state
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = wrapped(tokens, labels=tokens)
    assert torch.equal(output.cache.state, exact)
    output.loss.backward()
    assert wrapped.model.embedding.grad.isfinite().all()


def test_what_transformers_saves_is_loaded_by_both_sides(pair, tmp_path):
    model, wrapped = pair
    wrapped.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["tie_word_embeddings"] is True and "auto_map" not in config
    tokens = draw_tokens(40)
    close(native_logits(CVFPModel.from_pretrained(tmp_path), tokens), native_logits(model, tokens))
    with torch.no_grad():
        again = AutoModelForCausalLM.from_pretrained(tmp_path)(tokens[None]).logits
        close(again, wrapped(tokens[None]).logits)


def test_the_head_is_the_trained_embedding_not_the_table_of_the_contexts(pair):
    _, wrapped = pair
    head, embedding = wrapped.get_output_embeddings(), wrapped.get_input_embeddings()
    wrapped.tie_weights()
    assert head.weight is embedding.weight is wrapped.model.embedding
    assert head.weight is not wrapped.model.context_table
    assert head.bias is wrapped.model.output_bias
    assert not torch.equal(head.weight, wrapped.model.context_table)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_greedy_generation_is_the_native_one_alone_and_in_a_padded_batch(shape, tmp_path):
    model = native(**shape)
    wrapped, prompts = (
        loaded(model, tmp_path),
        [draw_tokens(7), draw_tokens(3, seed=1), draw_tokens(1, seed=2)],
    )
    expected = [list(model.generate(prompt, 30, temperature=0.0)) for prompt in prompts]
    alone = [
        wrapped.generate(p[None], max_new_tokens=30, do_sample=False)[0, len(p) :].tolist() for p in prompts
    ]
    assert alone == expected
    for side in ("left", "right"):
        ids, mask = padded(prompts, side)
        written = wrapped.generate(ids, attention_mask=mask, max_new_tokens=30, do_sample=False)
        assert written[:, ids.shape[1] :].tolist() == expected


@pytest.mark.parametrize("options", [{"do_sample": False}, {"num_beams": 3, "do_sample": False}])
def test_a_new_token_costs_one_step(pair, monkeypatch, options):
    """The prompt is solved once; after it each forward pass is one step, whatever has been read."""
    _, wrapped = pair
    steps, step = [], ContextBlock.step
    monkeypatch.setattr(ContextBlock, "step", lambda block, c, z: steps.append(len(c)) or step(block, c, z))
    wrapped.generate(draw_tokens(50)[None], max_new_tokens=1, **options)
    prompt = len(steps)
    wrapped.generate(draw_tokens(50)[None], max_new_tokens=41, **options)
    rows = options.get("num_beams", 1)
    assert steps[2 * prompt :] == [rows] * 40


def test_beams_take_their_states_along(pair):
    """As without a cache, where every beam is read anew from its start."""
    _, wrapped = pair
    ids, mask = padded([draw_tokens(9), draw_tokens(4, seed=3)], "left")
    options = {"num_beams": 4, "max_new_tokens": 20, "do_sample": False, "attention_mask": mask}
    expected = wrapped.generate(ids.where(mask == 1, 0), use_cache=False, **options)
    assert torch.equal(wrapped.generate(ids.where(mask == 1, 0), **options), expected)
    greedy = wrapped.generate(ids.where(mask == 1, 0), **(options | {"num_beams": 1}))
    assert not torch.equal(greedy, expected)


def test_sampling_repeats_by_torchs_seed_and_differs_by_it(pair):
    _, wrapped = pair
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        runs.append(
            wrapped.generate(draw_tokens(5)[None], max_new_tokens=30, do_sample=True, top_k=20).tolist()
        )
    assert runs[0] == runs[1] != runs[2]


def test_a_row_that_has_ended_leaves_the_others_as_they_are(pair):
    """It is filled up with a padding token that has no row in the table."""
    model, wrapped = pair
    prompts = [draw_tokens(6, seed=4), draw_tokens(6, seed=1)]
    expected = [list(model.generate(prompt, 30, temperature=0.0)) for prompt in prompts]
    end = next(token for token in expected[0] if token not in expected[1])
    written = wrapped.generate(
        torch.stack(prompts), max_new_tokens=30, do_sample=False, eos_token_id=end, pad_token_id=VOCABULARY
    )[:, 6:].tolist()
    stop = expected[0].index(end) + 1
    assert written[0] == expected[0][:stop] + [VOCABULARY] * (30 - stop)
    assert written[1] == expected[1]


@pytest.mark.parametrize("given", ["all tokens", "new tokens and the mask of all"])
def test_generation_goes_on_from_a_state(pair, given):
    model, wrapped = pair
    first, more = draw_tokens(8), draw_tokens(5, seed=1)
    options = {"max_new_tokens": 10, "do_sample": False}
    said = wrapped.generate(first[None], return_dict_in_generate=True, **options)
    with torch.no_grad():
        cache = wrapped(first[None]).cache
    whole = torch.cat([first, more])
    mask = torch.ones(1, 13, dtype=torch.long)
    ids = whole[None] if given == "all tokens" else more[None]
    written = wrapped.generate(ids, attention_mask=mask, cache=cache, **options)
    assert written[0, -10:].tolist() == list(model.generate(whole, 10, temperature=0.0))
    assert said.cache.get_seq_length() == 17  # the newest token has not been read


@pytest.mark.long
def test_a_config_without_a_format_and_one_of_the_future_are_refused(checkpoint, tmp_path):
    for number, way in ((None, "train it again"), (4, "install a newer cvfp")):
        folder = tmp_path / str(number)
        shutil.copytree(checkpoint, folder)
        config = json.loads((folder / "config.json").read_text()) | {"format": number}
        (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
        with pytest.raises(InputError, match=way):
            AutoModelForCausalLM.from_pretrained(folder)
        with pytest.raises(InputError, match=way):
            CVFPModel.from_pretrained(folder)


def test_half_precision_is_refused_when_it_is_loaded(checkpoint):
    with pytest.raises(InputError, match="float16"):
        AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float16)


def test_streamers_hand_on_what_is_written(checkpoint, capsys):
    wrapped, tokenizer = (
        AutoModelForCausalLM.from_pretrained(checkpoint),
        AutoTokenizer.from_pretrained(checkpoint),
    )
    prompt = tokenizer("abc def", return_tensors="pt")
    written = tokenizer.decode(wrapped.generate(**prompt, max_new_tokens=12, do_sample=False)[0])
    streamer = TextIteratorStreamer(tokenizer)
    wrapped.generate(**prompt, max_new_tokens=12, do_sample=False, streamer=streamer)
    assert "".join(streamer) == written
    capsys.readouterr()
    wrapped.generate(**prompt, max_new_tokens=12, do_sample=False, streamer=TextStreamer(tokenizer))
    assert capsys.readouterr().out.strip() == written.strip()


def test_a_pipeline_writes_from_a_checkpoint_of_a_sweep(checkpoint):
    wrapped, tokenizer = (
        AutoModelForCausalLM.from_pretrained(checkpoint),
        AutoTokenizer.from_pretrained(checkpoint),
    )
    write = pipeline("text-generation", model=wrapped, tokenizer=tokenizer)
    options = {"max_new_tokens": 8, "do_sample": False, "return_full_text": False}
    alone = [write(text, **options)[0]["generated_text"] for text in ("abc def", "a")]
    together = write(["abc def", "a"], batch_size=2, **options)
    assert [each[0]["generated_text"] for each in together] == alone
    model = CVFPModel.from_pretrained(checkpoint)
    ids = torch.tensor(tokenizer("a")["input_ids"])
    assert alone[1] == tokenizer.decode(list(model.generate(ids, 8, temperature=0.0)))


def test_a_config_alone_gives_a_model_to_train(tmp_path):
    torch.manual_seed(0)
    wrapped = CvfpForCausalLM(CvfpConfig(vocab_size=50, context_dim=8, embed_dim=6))
    assert torch.equal(wrapped.model.embedding, wrapped.model.context_table)
    assert wrapped.model.embedding.std() > 0
    assert wrapped(draw_tokens(20)[None]).logits.isfinite().all()
    assert wrapped.config.hidden_size == 6 and wrapped.config.num_hidden_layers == 1


IDS = draw_tokens(6)[None]
REFUSALS = {
    "a token outside": (
        lambda m: m(torch.tensor([[1, VOCABULARY]])),
        f"token {VOCABULARY} .* attention_mask",
    ),
    "a negative token": (lambda m: m(torch.tensor([[1, -2]])), "token -2"),
    "a row of padding": (lambda m: m(IDS.expand(2, 6), attention_mask=torch.eye(2, 6)[[0, 0]] * 0), "row 0"),
    "no batch": (lambda m: m(IDS[0]), r"input_ids is \(6,\)"),
    "no tokens": (lambda m: m(IDS[:, :0]), r"input_ids is \(1, 0\)"),
    "a mask of another length": (lambda m: m(IDS, attention_mask=torch.ones(1, 5)), "attention_mask is"),
    "a mask per pair": (lambda m: m(IDS, attention_mask=torch.ones(1, 1, 6, 6)), "4 dimensions"),
    "labels of another length": (lambda m: m(IDS, labels=IDS[:, 1:]), "labels is"),
    "a loss of the last": (lambda m: m(IDS, labels=IDS, logits_to_keep=1), "logits_to_keep"),
    "a cache of other rows": (lambda m: m(IDS.expand(2, 6), cache=m(IDS).cache), "cache has 1 rows"),
    "hidden states": (lambda m: m(IDS, output_hidden_states=True), "neither attentions nor hidden"),
    "hidden states while writing": (
        lambda m: m.generate(IDS, max_new_tokens=2, output_hidden_states=True, return_dict_in_generate=True),
        "output_hidden_states: .* neither attentions nor hidden",
    ),
    "attentions by a config": (
        lambda m: m.generate(IDS, generation_config=GenerationConfig(output_attentions=True)),
        "output_attentions: .* neither attentions nor hidden",
    ),
    "hidden states by the model's config": (
        lambda m: type(m)(type(m.config)(**m.config.to_dict() | {"output_hidden_states": True}))(IDS),
        "output_hidden_states: .* neither attentions nor hidden",
    ),
    "a larger vocabulary": (lambda m: m.resize_token_embeddings(VOCABULARY + 1), "41 were asked"),
    "a padded vocabulary": (lambda m: m.resize_token_embeddings(pad_to_multiple_of=64), "64 were asked"),
    "another embedding": (lambda m: m.set_input_embeddings(torch.nn.Embedding(4, 4)), "cannot be exchanged"),
    "nothing new": (
        lambda m: m.generate(IDS, cache=m(IDS).cache, max_new_tokens=1),
        "has read 6 positions, 6 are",
    ),
    "half precision": (lambda m: type(m)(m.config).half()(IDS), "torch.float16"),
}


@pytest.mark.parametrize(("act", "message"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_is_refused_in_one_line(pair, act, message):
    with pytest.raises(InputError, match=message) as caught:
        act(pair[1])
    assert "\n" not in str(caught.value)


def test_a_size_that_stays_is_no_resize(pair):
    assert pair[1].resize_token_embeddings(VOCABULARY).weight is pair[1].model.embedding


def test_tokens_cannot_be_taken_back_so_there_is_no_assisted_generation(pair):
    with pytest.raises(ValueError, match="assisted generation is not supported"):
        pair[1].generate(IDS, assistant_model=pair[1], max_new_tokens=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 1}, "format 1, this cvfp reads checkpoints of formats 2 and 3"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings"),
        ({"context_dim": 0}, "context_dim"),
        ({"context_dim": 32}, "weights do not fit"),
        ({"output_bias": True}, "weights do not fit"),
        ({"vocab_size": 41}, "weights do not fit"),
    ],
)
def test_a_bad_checkpoint_is_refused_on_this_side_too(tmp_path, change, message):
    native().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(InputError, match=message):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_without_transformers_the_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("cvfp.hf")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"transformers is needed .* pip install 'cvfp\[transformers\]'"):
        importlib.import_module("cvfp.hf")
