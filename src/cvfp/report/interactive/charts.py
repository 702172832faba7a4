"""All charts of a report, by the names that its figures have there."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from cvfp.report.interactive.laws import scaling_chart
from cvfp.report.interactive.ranks import rank_chart
from cvfp.report.interactive.windows import progression_chart
from cvfp.report.lines import Line


def report_charts(lines: Sequence[Line]) -> dict[str, go.Figure]:
    """The charts that have something to show, in the language of the block that this runs in."""
    found = {
        "scaling": scaling_chart(lines),
        "analysis": rank_chart(lines),
        "progression": progression_chart(lines),
    }
    return {name: chart for name, chart in found.items() if chart is not None}
