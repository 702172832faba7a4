"""`--published` end to end, on a local folder of the hub's layout and a local table of the GPT-2 shape."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from cvfp.cli.main import main
from cvfp.data.dataset import open_dataset
from cvfp.data.tokenizers import gpt2_tokenizer
from cvfp.records.sweep import read_plan

pytestmark = pytest.mark.usefixtures("undrawn")

WORDS = "the cat dog sat ran on under mat log and then it was good bad day night"


@pytest.fixture(scope="module")
def ultrachat(tmp_path_factory):
    """1,030 conversations of two short messages, as `data/train_sft-*.parquet`."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("ultrachat")
    (folder / "data").mkdir()
    rows = [
        [
            {"role": role, "content": " ".join(rng.choice(WORDS.split(), size=5))}
            for role in ("user", "assistant")
        ]
        for _ in range(1030)
    ]
    pq.write_table(pa.table({"messages": rows}), folder / "data" / "train_sft-00000-of-00001.parquet")
    return folder, rows


@pytest.mark.long
def test_the_published_protocol_runs_on_a_local_copy(tmp_path, ultrachat):
    folder, rows = ultrachat
    copy = tmp_path / "gpt2"
    copy.mkdir()
    # As small as GPT-2's: a frozen table of ones makes losses above a uniform guess, which count as diverged.
    wte = 0.1 * np.random.default_rng(1).standard_normal((50257, 8)).astype(np.float32)
    save_file({"wte.weight": wte, "wpe.weight": wte[:4]}, str(copy / "model.safetensors"))
    out = tmp_path / "sweep"
    sizes = [
        "model.context_dim=8",
        "model.embed_dim=8",
        "phase1.max_iterations=6",
        "phase2.epochs=2",
        "phase2.precision=float32",
    ]
    arguments = ["run", "v2", "--published", "--corpus", f"ultrachat:{folder}", "--embedding", f"gpt2:{copy}"]
    arguments += ["--samples", "5", "10", "--arms", "cvfp", "--device", "cpu", "--out", str(out)]
    assert main([*arguments, "--set", *sizes]) == 0
    plan = read_plan(out)
    assert plan.protocol == "published"
    config = plan.points[0].config
    assert not config.embedding.output_bias and not config.embedding.trained and config.phase2.lr == 1e-3
    dataset = open_dataset(config.data, lambda text: None)
    text = "\n\n".join("\n".join(message["content"] for message in row) for row in rows[1000:1020])
    (expected,) = gpt2_tokenizer().encode_batch([text])
    assert dataset.test.tokens.tolist() == dataset.dev.tokens.tolist() == list(expected)
    results = json.loads((out / "detailed_results.json").read_text())
    for row in results:
        assert row["status"] == "done" and row["val_ppl"] == pytest.approx(row["dev_ppl"], rel=1e-6)
        assert row["best_epoch"] == int(row["best_epoch"])
    first = "".join("\n".join(m["content"] for m in row) for row in rows[:5])
    assert results[0]["train_bytes"] == len(first.encode())
    summary = json.loads((out / "summary.json").read_text())
    assert summary[0]["fitted_points"] == 2 and summary[0]["excluded"] == []
    assert "published" in (out / "report.md").read_text()
