"""Claims: `cvfp generate` writes what the model says, the same for a seed, and never half a character."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fuzz_helpers import tried
from hypothesis import given
from hypothesis import strategies as st
from lab_helpers import listen_to_sigint
from model_helpers import make_model
from test_cli import assert_one_line, call

import cvfp
from cvfp.data.tokenizers import JsonTokenizer, TextPieces, gpt2_tokenizer, train_bpe

TEXTS = ["こんにちは、世界。", "今日は天気がいい🎉🚀", "naïve café 👩‍👩‍👧 — ok", "plain text, plain text"]
FALLBACK = {
    "model": {
        "type": "BPE",
        "vocab": {f"<0x{byte:02X}>": byte for byte in range(256)} | {"▁": 256, "a": 257, "日": 258},
        "merges": [],
        "byte_fallback": True,
        "unk_token": None,
    },
    "pre_tokenizer": {
        "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": False,
    },
    "decoder": {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    },
}  # fmt: skip
TOKENIZERS = {
    "bytes": train_bpe(257, TEXTS),
    "bpe": train_bpe(400, TEXTS),
    "gpt2": gpt2_tokenizer(),
    "fallback": JsonTokenizer("fallback", json.dumps(FALLBACK)),
}


def pieces_of(tokenizer, prompt: str, ids) -> list[str]:
    (start,) = tokenizer.encode_batch([prompt])
    pieces = TextPieces(tokenizer, start.tolist())
    return [pieces.add(int(token)) for token in ids]


@pytest.mark.parametrize("name", TOKENIZERS)
@given(prompt=st.sampled_from(TEXTS), text=st.text("a ñ日本語🎉👩‍👧é\n0", min_size=1, max_size=12))
@tried(40)
def test_a_character_comes_whole_and_with_its_last_token(name, prompt, text):
    tokenizer = TOKENIZERS[name]
    (ids,) = tokenizer.encode_batch([prompt + text])
    (start,) = tokenizer.encode_batch([prompt])
    if ids[: len(start)].tolist() != start.tolist():
        return  # a token reaches over the end of the prompt
    given_pieces = pieces_of(tokenizer, prompt, ids[len(start) :])
    assert "".join(given_pieces) == text and not any("\ufffd" in piece for piece in given_pieces)
    assert given_pieces[-1] != ""


def test_bytes_that_are_no_character_are_shown_once_that_is_certain():
    tokenizer = TOKENIZERS["bytes"]
    byte = {tokenizer.decode(np.array([i])): i for i in range(256)}
    lead, rest = tokenizer.encode_batch(["é"])[0].tolist()
    assert pieces_of(tokenizer, "a", [lead, lead, rest, byte["b"]]) == ["", "", "\ufffdé", "b"]
    assert pieces_of(tokenizer, "a", [rest, byte["b"], lead]) == ["", "\ufffdb", ""]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """An untrained model over a small vocabulary that spells Japanese in bytes."""
    path, tokenizer = tmp_path_factory.mktemp("writer") / "model", train_bpe(280, TEXTS)
    model = make_model(2, 2, vocab_size=tokenizer.vocab_size, output_bias=True)
    with torch.no_grad():
        model.embedding.mul_(0.3)
    model.save_pretrained(path)
    tokenizer.save(path)
    return path


def test_python_and_command_write_the_same_for_the_same_seed(capsys, checkpoint):
    texts = []
    for seed in (1, 1, 2):
        options = ["--seed", seed, "--max-new-tokens", 60, "--temperature", 0.7, "--device", "cpu"]
        code, out, err = call(capsys, "generate", checkpoint, "世界", *options)
        assert (code, err) == (0, "")
        writing = cvfp.generate(checkpoint, "世界", 60, temperature=0.7, seed=seed, device="cpu")
        texts.append("".join(writing))
        assert out == "世界" + texts[-1] + "\n" and len(writing.ids) == 60
    assert texts[0] == texts[1] != texts[2]


def test_the_answer_holds_what_streaming_shows(capsys, checkpoint):
    arguments = ["generate", checkpoint, "天気 ", "--max-new-tokens", 80, "--seed", 3, "--device", "cpu"]
    _, streamed, _ = call(capsys, *arguments)
    code, out, _ = call(capsys, *arguments, "--json")
    answer = json.loads(out)
    tokenizer = train_bpe(280, TEXTS)
    assert code == 0 and answer["prompt"] == "天気 " and answer["seed"] == 3 and answer["top_k"] is None
    assert "天気 " + answer["text"] + "\n" == streamed and len(answer["tokens"]) == 80
    whole = tokenizer.decode(np.array(answer["prompt_tokens"] + answer["tokens"]))
    assert ("天気 " + answer["text"]).rstrip("\ufffd") == whole.rstrip("\ufffd")


def test_greedy_text_is_the_argmax_of_the_definition(checkpoint):
    model = cvfp.CVFPModel.from_pretrained(checkpoint)
    writing = cvfp.generate(checkpoint, "ok", 12, temperature=0.0, device="cpu")
    "".join(writing)
    tokens = list(writing.prompt_ids)
    with torch.no_grad():
        for _ in range(12):
            stream = torch.tensor(tokens)
            hidden = model.hidden(model.contexts(stream), stream, torch.arange(len(stream)))
            tokens.append(int(model.logits(hidden)[-1].argmax()))
    assert tokens == writing.prompt_ids + writing.ids


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_narrow_weights_write_too(checkpoint, kind):
    writing = cvfp.generate(checkpoint, "ok", 5, device="cpu", weights=kind)
    assert isinstance("".join(writing), str) and len(writing.ids) == 5


def test_a_prompt_may_come_from_standard_input(capsys, monkeypatch, checkpoint):
    def asked(data: bytes):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
        return call(capsys, "generate", checkpoint, "-", "--max-new-tokens", 3, "--device", "cpu", "--json")

    code, out, _ = asked("世界\r\n".encode())
    assert code == 0 and json.loads(out)["prompt"] == "世界"
    for data, words in ((b"\n", ["prompt is empty"]), (b"ok \xff", ["standard input", "UTF-8", "byte 3"])):
        code, out, err = asked(data)
        assert (code, out) == (2, "")
        assert_one_line(err, *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--temperature", "-1"], ["temperature is -1", "0 or larger"]),
        (["--temperature", "nan"], ["temperature is nan"]),
        (["--top-p", "0"], ["top_p is 0", "above 0 and at most 1"]),
        (["--top-p", "1.5"], ["top_p is 1.5"]),
        (["--top-k", "0"], ["top_k is 0", "at least 1"]),
        (["--max-new-tokens", "0"], ["max_new_tokens is 0", "at least 1"]),
        (["--seed", "-1"], ["seed is -1"]),
        (["--seed", str(2**63)], ["seed is 9223372036854775808"]),
        (["--device", "tpu"], ["--device 'tpu'"]),
    ],
)
def test_bad_values_are_one_line(capsys, checkpoint, arguments, words):
    code, out, err = call(capsys, "generate", checkpoint, "ok", *arguments)
    assert (code, out) == (2, "")
    assert_one_line(err, *words)


def test_no_checkpoint_and_an_empty_prompt_are_one_line(capsys, tmp_path, checkpoint):
    code, _, err = call(capsys, "generate", tmp_path / "nowhere", "ok")
    assert code == 2
    assert_one_line(err, "nowhere", "no checkpoint here")
    code, _, err = call(capsys, "generate", checkpoint, "")
    assert code == 2
    assert_one_line(err, "empty")


def started(checkpoint: Path) -> subprocess.Popen:
    """A command that writes for ever."""
    command = [sys.executable, "-m", "cvfp", "generate", checkpoint, "ok", "--device", "cpu"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0}
    return subprocess.Popen([*command, "--max-new-tokens", str(10**9)], **pipes, preexec_fn=listen_to_sigint)


@pytest.mark.long
def test_an_interrupt_keeps_what_was_written(checkpoint):
    process = started(checkpoint)
    first = process.stdout.read(2) + process.stdout.read(20)
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=300)
    assert process.returncode == 130 and err.decode().splitlines() == ["cvfp: interrupted."]
    text, same = (first + rest).decode(), "ok" + "".join(cvfp.generate(checkpoint, "ok", 8, device="cpu"))
    told = min(len(text) - 1, len(same))
    assert text.endswith("\n") and told > 2 and text[:told] == same[:told]


@pytest.mark.long
def test_a_reader_that_leaves_ends_the_writing_quietly(checkpoint):
    with started(checkpoint) as process:
        process.stdout.read(20)
        process.stdout.close()
        assert (process.stderr.read(), process.wait(60)) == (b"", 1)


def test_a_prompt_that_is_no_text_is_one_line(checkpoint, capsys):
    code, _, err = call(capsys, "generate", checkpoint, "hi \udc82")
    assert code == 2
    assert_one_line(err, "not UTF-8")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.long
def test_output_that_cannot_be_written_is_one_line(checkpoint):
    command = [sys.executable, "-m", "cvfp", "generate", checkpoint, "ok", "--device", "cpu"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["cvfp: error: standard output: No space left on device"]
