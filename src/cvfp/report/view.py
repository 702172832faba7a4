"""What the sections of a report are made of: the records of a sweep, its lines, and where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from cvfp.records.sweep import Sweep
from cvfp.report.changes import LineChange
from cvfp.report.joint_laws import ArmLaw, arm_laws
from cvfp.report.lines import Line
from cvfp.report.standings import Headline, headline, reference_line


@dataclass(frozen=True, eq=False)
class View:
    """A sweep as its report looks at it.

    Args:
        sweep: the records.
        lines: `report_lines` of them.
        place: the directory as a command would name it.
    """

    sweep: Sweep
    lines: Sequence[Line]
    place: str

    @cached_property
    def top(self) -> Headline | None:
        """Where models stand at the largest size that they share; None where there is none."""
        return headline(self.lines)

    @cached_property
    def reference(self) -> Line | None:
        """The line that others are held against: the best of the model that the report is about, else the
        best there is."""
        if self.top is None:
            return max(self.scored, key=lambda line: len(line.scored), default=None)
        return reference_line(self.top) or self.top.standings[0].line

    @cached_property
    def scored(self) -> list[Line]:
        """The lines with a score, best first at the common size where there is one."""
        if self.top is not None:
            return [standing.line for standing in self.top.standings]
        return [line for line in self.lines if line.scored]

    @cached_property
    def changes(self) -> list[LineChange]:
        """Every other line with a score against the reference, as far as they share tokens."""
        if self.reference is None:
            return []
        found = [LineChange(self.reference, line) for line in self.scored if line is not self.reference]
        return [change for change in found if change.pairs]

    @cached_property
    def joint_laws(self) -> list[ArmLaw]:
        """The laws of parameters and data together, of the models that were run in several sizes."""
        return arm_laws(self.lines)

    @property
    def sizes(self) -> list[int]:
        """The sizes of the reference line, in documents."""
        return [] if self.reference is None else sorted({p.num_samples for p in self.reference.scored})

    @property
    def seeds(self) -> int:
        """Different draws of training documents, of the reference line."""
        return 0 if self.reference is None else len({point.draw for point in self.reference.scored})
