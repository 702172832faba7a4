"""Arms by name."""

from __future__ import annotations

from cvfp.arms.base import Arm
from cvfp.records.config import RunConfig


def make_arm(config: RunConfig, vocab_size: int) -> Arm:
    """The arm that `config.arm` names, with its settings at the run's number of documents."""
    config = config.resolved()
    if config.own is not None:
        from cvfp.arms.own import load_own_arm

        return load_own_arm(config, vocab_size)
    if config.arm == "kneser-ney":
        from cvfp.arms.kneser_ney import KneserNeyArm

        return KneserNeyArm(config.ngram.order, vocab_size)
    if config.arm == "mixture":
        from cvfp.arms.mixture import MixtureArm

        return MixtureArm()
    if config.arm == "unigram":
        from cvfp.arms.unigram import UnigramArm

        return UnigramArm(vocab_size)
    if config.arm == "lstm":
        from cvfp.arms.sequence import lstm_arm

        return lstm_arm(config, vocab_size)
    if config.arm == "transformer":
        from cvfp.arms.sequence import transformer_arm

        return transformer_arm(config, vocab_size)
    if config.arm == "cvfp-joint":
        from cvfp.arms.joint import JointArm

        return JointArm(config, vocab_size)
    from cvfp.arms.cvfp import CvfpArm

    return CvfpArm(config, vocab_size)
