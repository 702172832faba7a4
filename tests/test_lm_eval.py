"""Claims: lm-evaluation-harness runs a checkpoint as the model `cvfp`, and its figures are cvfp's own."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

import numpy as np
import pytest
import torch

pytest.importorskip("lm_eval")

import lm_eval
from lab_helpers import checkpoint_of
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

from cvfp.data.tokenizers import saved_tokenizer
from cvfp.hf.lm_eval import CvfpLM
from cvfp.lab.single import score_file
from cvfp.models.cvfp import CVFPModel
from cvfp.records.errors import InputError

TEXTS = ("abc de fgh abc de", "ab cd\nef gh ab", "hgf edc ba abc " * 200)
HEAD = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/data.json}}, cache_dir: {folder}/cache}}
test_split: test
"""
TASKS = {
    "tiny_rolling": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}, {metric: bits_per_byte}]
""",
    "tiny_choice": """
output_type: multiple_choice
doc_to_text: "{{start}}"
doc_to_choice: "{{choices}}"
doc_to_target: gold
target_delimiter: ""
metric_list: [{metric: acc}]
""",
    "tiny_generation": """
output_type: generate_until
doc_to_text: "{{start}}"
doc_to_target: "{{text}}"
generation_kwargs: {until: ["zzz"], max_gen_toks: 6}
metric_list: [{metric: exact_match}]
""",
}


@pytest.fixture(scope="module")
def checkpoint(whole: Path) -> Path:
    return checkpoint_of(whole)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Tasks, with their data beside them."""
    path = tmp_path_factory.mktemp("tasks")
    rows = [
        {"text": text, "start": text[:9], "choices": [text[9:12], "hhhh", "ab"], "gold": 0} for text in TEXTS
    ]
    (path / "data.json").write_text("\n".join(json.dumps(row) for row in rows))
    for name, body in TASKS.items():
        head = HEAD.format(name=name, folder=path)
        (path / f"{name}.yaml").write_text(head + body)
    return path


@pytest.fixture(scope="module")
def results(checkpoint: Path, folder: Path) -> dict:
    """Batches of several texts, by the registered name."""
    return lm_eval.simple_evaluate(
        model="cvfp",
        model_args={"pretrained": str(checkpoint)},
        tasks=list(TASKS),
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        device="cpu",
        batch_size=3,
        bootstrap_iters=0,
    )


@pytest.fixture(scope="module")
def harnessed(checkpoint: Path) -> CvfpLM:
    return CvfpLM(str(checkpoint), device="cpu", batch_size=2)


def nats(checkpoint: Path, context: str, continuation: str) -> tuple[float, bool]:
    """Log-likelihood by hand, and whether each token is the likeliest one, natively.

    The harness counts spaces at the end of a context to the continuation, and takes the context's tokens from
    the context alone.
    """
    model, tokenizer = CVFPModel.from_pretrained(checkpoint), saved_tokenizer(checkpoint)
    whole, head = tokenizer.encode_batch([context + continuation, context.rstrip()])
    first = max(len(head), 1)
    tokens = torch.from_numpy(np.concatenate([head, whole[len(head) :]]))
    with torch.no_grad():
        logits = model.logits(model.hidden(model.contexts(tokens), tokens, torch.arange(len(tokens))))
    rows, targets = logits[first - 1 : -1], tokens[first:]
    likely = torch.log_softmax(rows, dim=1).gather(1, targets[:, None]).sum()
    return float(likely), bool((rows.argmax(dim=1) == targets).all())


def test_rolling_perplexity_is_that_of_cvfp_eval(results, checkpoint, tmp_path):
    """Of every text the sum of nats of tokens[1:], to 1e-6 of it: nothing of it is cut into windows."""
    for text, sample in zip(TEXTS, results["samples"]["tiny_rolling"], strict=True):
        (tmp_path / "text.txt").write_text(text)
        figures = score_file(checkpoint, tmp_path / "text.txt", "cpu")
        expected = -math.log(figures["ppl"]) * (figures["tokens"] - 1)
        assert sample["resps"] == [[pytest.approx(expected, rel=1e-6)]]


def test_the_harness_divides_by_all_bytes_of_a_text(results, checkpoint):
    """`cvfp eval` by those of the predicted tokens, which are a token's fewer."""
    total = -sum(sample["resps"][0][0] for sample in results["samples"]["tiny_rolling"])
    bits = total / math.log(2) / sum(len(text.encode()) for text in TEXTS)
    assert results["results"]["tiny_rolling"]["bits_per_byte,none"] == pytest.approx(bits, rel=1e-9)


def test_choices_are_judged_by_the_native_log_likelihoods(results, checkpoint):
    hits = []
    for sample in results["samples"]["tiny_choice"]:
        doc = sample["doc"]
        expected = [nats(checkpoint, doc["start"], choice) for choice in doc["choices"]]
        for response, (value, greedy) in zip(sample["filtered_resps"], expected, strict=True):
            assert response == (pytest.approx(value, abs=1e-3), greedy)
        hits.append(max(range(3), key=lambda index: expected[index][0]) == 0)
    assert results["results"]["tiny_choice"]["acc,none"] == pytest.approx(sum(hits) / len(hits))


def test_generated_texts_are_the_native_ones(results, checkpoint):
    model, tokenizer = CVFPModel.from_pretrained(checkpoint), saved_tokenizer(checkpoint)
    for sample in results["samples"]["tiny_generation"]:
        (prompt,) = tokenizer.encode_batch([sample["doc"]["start"]])
        ids = list(model.generate(torch.from_numpy(prompt), 6, temperature=0.0))
        assert sample["resps"] == [[tokenizer.decode(ids)]]


def request(kind: str, *arguments: str) -> Instance:
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


def test_without_a_context_the_first_token_is_given(harnessed, checkpoint):
    ((value, _),) = harnessed.loglikelihood([request("loglikelihood", "", "abc de")], disable_tqdm=True)
    assert value == pytest.approx(nats(checkpoint, "", "abc de")[0], abs=1e-4)
    rolled = harnessed.loglikelihood_rolling([request("loglikelihood_rolling", "abc de")])
    assert rolled == [pytest.approx(value, abs=1e-4)]
    assert harnessed.loglikelihood_rolling([request("loglikelihood_rolling", "")]) == [0.0]
    with pytest.raises(InputError, match="'z' is 1 token without a context"):
        harnessed.loglikelihood([request("loglikelihood", "", "z")], disable_tqdm=True)


def test_a_context_of_any_length_is_read_whole(harnessed, checkpoint):
    """Longer than the 2,048 tokens at which the harness cuts a model that names no limit."""
    context = "abc hgf de " * 1_500
    assert len(harnessed.tok_encode(context)) > 4_096
    ((value, _),) = harnessed.loglikelihood([request("loglikelihood", context, "abc")], disable_tqdm=True)
    assert value == pytest.approx(nats(checkpoint, context, "abc")[0], abs=1e-3)


def test_automatic_batches_need_no_largest_length(checkpoint):
    model = CvfpLM(str(checkpoint), device="cpu", batch_size="auto", max_batch_size=4)
    options = {"until": ["zzz"], "max_gen_toks": 3}
    asked = [Instance(request_type="generate_until", doc={}, arguments=("ab", options), idx=0)]
    assert len(model.generate_until(asked, disable_tqdm=True)) == 1


@pytest.mark.long
def test_the_command_line_of_the_harness_knows_the_model(checkpoint, folder, tmp_path):
    command = [sys.executable, "-m", "cvfp.hf.lm_eval", "--model", "cvfp", "--device", "cpu"]
    options = {
        "--model_args": f"pretrained={checkpoint}",
        "--tasks": "tiny_rolling",
        "--include_path": str(folder),
        "--output_path": str(tmp_path / "results.json"),
    }
    done = subprocess.run(
        [*command, *(part for pair in options.items() for part in pair)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "tiny_rolling" in done.stdout and "bits_per_byte" in done.stdout
