"""Arms by name."""

from __future__ import annotations

from cvfp.arms.base import Arm
from cvfp.records.config import RunConfig


def make_arm(config: RunConfig, vocab_size: int) -> Arm:
    """The arm that `config.arm` names, with its settings."""
    if config.arm == "kneser-ney":
        from cvfp.arms.kneser_ney import KneserNeyArm

        return KneserNeyArm(config.ngram.order, vocab_size)
    if config.arm == "unigram":
        from cvfp.arms.unigram import UnigramArm

        return UnigramArm(vocab_size)
    if config.arm in ("lstm", "transformer"):
        from cvfp.arms.sequence import SequenceArm

        return SequenceArm(config, vocab_size)
    from cvfp.arms.cvfp import CvfpArm

    return CvfpArm(config, vocab_size)
