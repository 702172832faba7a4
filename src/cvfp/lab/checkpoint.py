"""What a trained point leaves: model, tokenizer, the record of its training, and a model card."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from cvfp.data.tokenizers import Tokenizer
from cvfp.lab.point import PointResult
from cvfp.records.arms import arm_kind
from cvfp.records.config import RunConfig, dotted
from cvfp.records.files import is_dir, is_file, parts_of, write_json, write_text
from cvfp.records.results import CAP, PointRecord, RunRecord

# --- The model card of a checkpoint: `README.md` with the front matter that the Hugging Face hub reads.


BAR = "\\|"
"""A bar that does not end the cell of a table."""
METRICS = (
    ("val_ppl", "perplexity", "Perplexity", "PPL", ".2f"),
    ("val_acc", "accuracy", "Next-token accuracy", "next-token accuracy", ".4f"),
    ("bits_per_byte", "bits_per_byte", "Bits per byte", "bits per byte", ".4f"),
)
"""Of the test documents: field of the row, type and name on the hub, name in the table, format."""

USE = """## Use

Natively (`pip install 'cvfp[train]'`):

```python
import torch
from cvfp import CVFPModel
from cvfp.data.tokenizers import saved_tokenizer

folder = "."  # this directory
model, tokenizer = CVFPModel.from_pretrained(folder), saved_tokenizer(folder)
(prompt,) = tokenizer.encode_batch(["Hello"])
print(tokenizer.decode(list(model.generate(torch.from_numpy(prompt), 40, top_p=0.9))))
```

Through transformers (`pip install 'cvfp[train,transformers]'`); importing `cvfp.hf` makes the model type
known, and no code is read from this directory:

```python
import cvfp.hf
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = AutoModelForCausalLM.from_pretrained("."), AutoTokenizer.from_pretrained(".")
ids = model.generate(**tokenizer("Hello", return_tensors="pt"), max_new_tokens=40, do_sample=True, top_p=0.9)
print(tokenizer.decode(ids[0]))
```
"""

LIMITS = (
    "It continues text like its training text. It was given no instructions and no preferences, and nothing "
    "keeps it from false or offensive sentences.",
    "Training documents were put together without a separator: it has learned no end of text, so generation "
    "ends at `max_new_tokens` alone.",
    "The figures are of one training run, on test documents of the same corpus.",
    "It computes in float32 or float64; half precision is refused.",
)


def model_card(config: RunConfig, record: RunRecord, vocab_size: int, environment: dict[str, Any]) -> str:
    """The text of the card.

    Args:
        config: what the model was trained with.
        record: a finished point.
        vocab_size: ids of the tokenizer, V.
        environment: as `cvfp.lab.machine.environment` gives it.
    """
    row, config = record.point, without_paths(config)
    name = _code(row.config_name)
    shape = ", ".join(
        f"{key} {getattr(row, key)}" for key in ("num_layers", "context_dim", "num_input_tokens")
    )
    parts = [
        _front_matter(config, row),
        f"# {name}",
        f"A context-vector fixed-point language model ({shape}; arm `{row.arm}`), trained with cvfp "
        f"{environment['cvfp']} on {row.num_samples:,} documents of {_code(' + '.join(config.data.corpora))} "
        f"({row.train_tokens:,} tokens).",
        _measured(config, record, vocab_size),
        USE.strip(),
        _limits(config, record),
        _configuration(config),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(config: RunConfig, row: PointRecord) -> str:
    """YAML; every value is written as JSON, which is YAML too."""
    name = " + ".join(config.data.corpora)
    corpus = {"type": _slug(name), "name": name, "split": "test"}
    metrics = [
        {"type": kind, "name": name, "value": getattr(row, field)}
        for field, kind, name, _, _ in METRICS
        if getattr(row, field) is not None
    ]
    task = {"type": "text-generation", "name": "Next-token prediction"}
    result = {"task": task, "dataset": corpus, "metrics": metrics}
    fields = {
        "library_name": "cvfp",
        "pipeline_tag": "text-generation",
        "tags": list(dict.fromkeys(["cvfp", "recurrent", "fixed-point", row.arm])),
        "model-index": [{"name": row.config_name, "results": [result]}],
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=True)}" for key, value in fields.items()]
    return "\n".join(["---", *lines, "---"])


def _measured(config: RunConfig, record: RunRecord, vocab_size: int) -> str:
    row, documents = record.point, record.test_documents
    of = (
        ""
        if documents is None
        else f" ({len(documents.tokens):,} documents, {sum(documents.tokens):,} tokens)"
    )
    rows = [
        (f"test {label}{of}", format(getattr(row, field), shown))
        for field, _, _, label, shown in METRICS
        if getattr(row, field) is not None
    ]
    ranks = (("train", row.train_er), ("test", row.val_er))
    rows += [
        (f"effective rank of the {part} contexts, share of d_c", f"{share:.3f}")
        for part, share in ranks
        if share is not None
    ]
    rows += [
        ("training tokens", f"{row.train_tokens:,}"),
        ("tokens seen" if config.arm == "cvfp-joint" else "tokens seen in phase 2", _count(row.tokens_seen)),
        ("parameters, of them trained", f"{_count(row.total_params)}, {_count(row.trained_params)}"),
        ("vocabulary", f"{vocab_size:,}"),
        *_phase1(record),
        ("end of training", f"{row.stop_reason}, epoch {row.best_epoch}"),
    ]
    lines = ["## Measured", "", "| figure | value |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)]
    return "\n".join(lines)


def _phase1(record: RunRecord) -> list[tuple[str, str]]:
    """The iterations of phase 1, a lower bound where it was cut off; nothing of a joint training."""
    if record.point.arm == "cvfp-joint":
        return []
    at_least = "≥ " if record.phase1_converged is False else ""
    return [("iterations of phase 1", at_least + _count(record.point.phase1_iter))]


def _limits(config: RunConfig, record: RunRecord) -> str:
    return "\n".join(["## Limits", "", *(f"- {line}" for line in (*_flags(config, record), *LIMITS))])


def _flags(config: RunConfig, record: RunRecord) -> list[str]:
    """What this run in particular has to be said of."""
    found = [
        f"It profited from data beyond its training documents: {_code(each)}." for each in record.facts.prior
    ]
    if config.data.split == "published":
        found.append("Dev and test are the same text: training stopped on the text that is reported.")
    if config.data.test_tokens is not None:
        found.append(f"Only the first {config.data.test_tokens:,} test tokens were scored.")
    if record.point.stop_reason == CAP:
        found.append("Training ended at its cap on epochs, not at the minimum of the dev loss.")
    if record.phase1_converged is False:
        found.append("Phase 1 ended at its cap on iterations before it had converged.")
    if config.arm in ("random-context", "no-context"):
        what = (
            "untrained context block" if arm_kind(config.arm).has_context else "model without a context block"
        )
        found.append(f"An ablation: {what}.")
    health = record.facts.health
    found += [f"Context health: {_code(each)}." for each in (health.failures if health is not None else ())]
    return found


def _configuration(config: RunConfig) -> str:
    settings = dotted(config.relevant())
    rows = [
        f"| `{key}` | {_code(json.dumps(value, ensure_ascii=False)).replace('|', BAR)} |"
        for key, value in settings.items()
    ]
    return "\n".join(["## Configuration", "", "| setting | value |", "|---|---|", *rows])


def _count(value: int | None) -> str:
    return "none" if value is None else f"{value:,}"


def _code(text: str) -> str:
    """A user's words (a path, a name) as inline code: nothing in them is Markdown."""
    return "`" + re.sub(r"[`\r\n]", " ", text) + "`"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-") or "corpus"


def without_paths(config: RunConfig) -> RunConfig:
    """The same with the names of local files and folders, for what is given away."""
    data, embedding = config.data, config.embedding
    named = {"corpus": _named(data.corpus), "tokenizer": _named(data.tokenizer)}
    changes = {
        "data": data.model_copy(update=named),
        "embedding": embedding.model_copy(update={"source": _named(embedding.source)}),
    }
    return config.model_copy(update=changes)


def _named(spec: str | tuple[str, ...]) -> Any:
    """The names of local files and folders in a setting such as `hub:FOLDER:SPLIT`, or in each of several."""
    if not isinstance(spec, str):
        return tuple(map(_named, spec))
    parts = parts_of(spec)
    return ":".join(
        Path(part).resolve().name if is_file(Path(part)) or is_dir(Path(part)) else part for part in parts
    )


# --- The directory, made to be given away.


RECORD, CARD = "training_record.json", "README.md"


def save_point(
    result: PointResult, config: RunConfig, tokenizer: Tokenizer, environment: dict[str, Any], directory: Path
) -> None:
    """Write a checkpoint directory; nothing for an arm that has no checkpoint.

    It is made to be given away: local files are named without their paths. Raises `WriteError` when the
    directory cannot be written.
    """
    if result.fitted is None:
        return
    result.fitted.save(directory)
    if not is_dir(directory):
        return
    tokenizer.save(directory)
    config = without_paths(config)
    made = {"config": config.relevant(), "environment": environment}
    write_json(directory / RECORD, made | {"record": result.record.model_dump(mode="json")})
    if arm_kind(config.arm).has_checkpoint:
        card = model_card(config, result.record, tokenizer.vocab_size, environment)
        write_text(directory / CARD, card)
