"""What the records need to know of each arm: which settings can change its result, and what it has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ArmKind:
    """`sections` of the config that the arm reads (besides data and seed); whether it has a context block."""

    sections: tuple[str, ...]
    has_context: bool = False

    @property
    def neural(self) -> bool:
        """Whether it is trained by gradients; the others count."""
        return "embedding" in self.sections

    @property
    def training_section(self) -> str | None:
        """The section that says how tokens are learned; None for an arm that counts."""
        return self.sections[-1] if self.neural else None

    @property
    def two_phase(self) -> bool:
        """Whether it is CVFP or an ablation of it: tokens are learned in a phase of their own."""
        return "phase2" in self.sections


ARM_KINDS = {
    "cvfp": ArmKind(("model", "embedding", "phase1", "phase2"), has_context=True),
    "random-context": ArmKind(("model", "embedding", "phase2"), has_context=True),
    "no-context": ArmKind(("model", "embedding", "phase2")),
    "lstm": ArmKind(("model", "embedding", "lstm")),
    "transformer": ArmKind(("model", "embedding", "transformer")),
    "unigram": ArmKind(()),
    "kneser-ney": ArmKind(("ngram",)),
}

ARMS = tuple(ARM_KINDS)
DEFAULT_ARMS = ("cvfp", "kneser-ney", "no-context", "random-context")
