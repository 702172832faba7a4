"""What a trained point leaves: model, tokenizer, the record of its training, and a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cvfp.data.tokenizers import Tokenizer
from cvfp.lab.model_card import model_card, without_paths
from cvfp.lab.point import PointResult
from cvfp.records.arms import arm_kind
from cvfp.records.config import RunConfig
from cvfp.records.files import is_dir, write_json, write_text

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
