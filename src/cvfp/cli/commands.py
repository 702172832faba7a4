"""Which commands there are, in the groups that `cvfp` lists them in."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

GROUPS = {
    "Start here": {
        "quickstart": (
            "sweep:quickstart",
            "The whole story on two cores in a few minutes: who wins, by how much",
        ),
        "presets": ("sweep:presets", "List the presets with their grids"),
        "settings": ("sweep:settings", "List every setting with its default and its meaning"),
    },
    "Sweeps": {
        "run": ("sweep:run", "Run a sweep: a preset, or a file of your own; again, and it resumes"),
        "tune": ("sweep:tune", "Give every model the same trials; keep the best one on dev"),
        "status": ("sweep:status", "How far a sweep is: models by sizes, and what failed or diverged"),
        "next": ("sweep:next_", "What to run next: which seed or size narrows the difference most"),
        "report": ("sweep:report", "(Re)write the report of a sweep from its records alone"),
    },
    "Analysis": {
        "fit": ("analysis:fit", "Scaling analysis of any table, whoever produced it"),
        "compare": ("analysis:compare", "Sweeps side by side: what changed, by how much, how sure"),
        "published": (
            "analysis:published",
            "The published tables, recomputed; what does not follow is marked",
        ),
    },
    "One model": {
        "train": ("model:train", "Train one CVFP model to a checkpoint, and score it"),
        "eval": ("model:evaluate", "Score a text: perplexity, accuracy, bits per byte"),
        "generate": (
            "model:generate",
            "Write text that follows a prompt, each character as soon as it is whole",
        ),
        "diagnose": ("model:diagnose", "Check the health of a model's contexts"),
    },
    "Data, shell and editor": {
        "data": ("corpus:data", "Look at data: `data stats` of a corpus, `data tokenize` of a file"),
        "completion": (
            "completion:completion",
            "Write tab completion for a shell: commands, options, presets",
        ),
        "schema": ("schema:schema", "Print a JSON Schema: of a sweep file, or of a record"),
    },
}
"""Where each is defined, below `cvfp.cli`, and what it does: the first line of its docstring."""
PLACES = {name: place for commands in GROUPS.values() for name, (place, _) in commands.items()}


def command(name: str) -> Callable[..., int]:
    """The function behind a command. Only now its module is imported: a list of commands needs none."""
    module, _, function = PLACES[name].partition(":")
    return getattr(import_module(f"cvfp.cli.{module}"), function)


DESCRIPTION = "Train context-vector fixed-point language models and measure how they scale with data."


def overview() -> str:
    """What there is, in groups, and how to go on."""
    lines = ["usage: cvfp COMMAND [options]", "", DESCRIPTION, ""]
    for title, commands in GROUPS.items():
        lines.append(title)
        lines += [f"  {name:<11}{said}" for name, (_, said) in commands.items()]
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
