"""What the records need to know of each arm: which settings can change its result, and what it has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ArmKind:
    """`sections` of the config that the arm reads (besides data and seed).

    `training_section` is the one that says how tokens are learned, None where the lab does not know it;
    `has_context` whether there is a context block.
    """

    sections: tuple[str, ...]
    training_section: str | None = None
    has_context: bool = False

    @property
    def neural(self) -> bool:
        """Whether it is trained by gradients; the others count."""
        return "embedding" in self.sections

    @property
    def has_checkpoint(self) -> bool:
        """Whether it is a CVFP model in whatever training, which can be saved, read and written with."""
        return self.two_phase or self.training_section == "joint"

    @property
    def two_phase(self) -> bool:
        """Whether it is CVFP or an ablation of it: tokens are learned in a phase of their own."""
        return self.training_section == "phase2"


ARM_KINDS = {
    "cvfp": ArmKind(("model", "embedding", "phase1", "phase2"), "phase2", has_context=True),
    "cvfp-joint": ArmKind(("model", "embedding", "joint"), "joint", has_context=True),
    "random-context": ArmKind(("model", "embedding", "phase2"), "phase2", has_context=True),
    "no-context": ArmKind(("model", "embedding", "phase2"), "phase2"),
    "lstm": ArmKind(("model", "embedding", "lstm"), "lstm"),
    "transformer": ArmKind(("model", "embedding", "transformer"), "transformer"),
    "unigram": ArmKind(()),
    "kneser-ney": ArmKind(("ngram",)),
    "mixture": ArmKind(("mixture",)),
}

ARMS = tuple(ARM_KINDS)
DEFAULT_ARMS = ("cvfp", "cvfp-joint", "kneser-ney", "no-context", "random-context")
OWN_ARM = ArmKind(("model", "embedding", "own"))
"""An arm in a file of the user's."""


def arm_kind(name: str) -> ArmKind:
    """What is known of an arm; a name that is none of ours is that of a user's file."""
    return ARM_KINDS.get(name, OWN_ARM)
