"""Which commands there are, in the groups that `cvfp` lists them in."""

from __future__ import annotations

from collections.abc import Callable

from cvfp.cli import analysis, completion, corpus, model, schema, sweep

GROUPS: dict[str, dict[str, Callable]] = {
    "Start here": {"quickstart": sweep.quickstart, "presets": sweep.presets, "settings": sweep.settings},
    "Sweeps": {
        "run": sweep.run,
        "tune": sweep.tune,
        "status": sweep.status,
        "next": sweep.next_,
        "report": sweep.report,
    },
    "Analysis": {"fit": analysis.fit, "compare": analysis.compare, "published": analysis.published},
    "One model": {
        "train": model.train,
        "eval": model.evaluate,
        "generate": model.generate,
        "diagnose": model.diagnose,
    },
    "Data, shell and editor": {
        "data": corpus.data,
        "completion": completion.completion,
        "schema": schema.schema,
    },
}
COMMANDS = {name: command for commands in GROUPS.values() for name, command in commands.items()}

DESCRIPTION = "Train context-vector fixed-point language models and measure how they scale with data."


def overview() -> str:
    """What there is, in groups, and how to go on."""
    lines = ["usage: cvfp COMMAND [options]", "", DESCRIPTION, ""]
    for title, commands in GROUPS.items():
        lines.append(title)
        for name, command in commands.items():
            said = (command.__doc__ or "").partition("\n")[0].rstrip(".")
            lines.append(f"  {name:<11}{said}")
        lines.append("")
    return "\n".join(
        [
            *lines,
            "Begin with: cvfp quickstart. Every command has --help with an example;",
            "--debug shows tracebacks, --quiet no progress, --version tells the version.",
            "Exit codes: 0 done, 1 failed or partial, 2 wrong usage or input,",
            "130 interrupted, 143 terminated.",
        ]
    )
