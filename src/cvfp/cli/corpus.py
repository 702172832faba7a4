"""What a corpus holds, and how many tokens a text is."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from cvfp.cli.options import (
    Corpora,
    Json,
    Set,
    TextField,
    print_json,
    print_note,
    print_table,
    settings_of,
    value_text,
)
from cvfp.records.config import dotted


@dataclass(frozen=True)
class Stats:
    """What a corpus holds and how it is split.

    Example: cvfp data stats --corpus my-folder text.txt --tokenizer bpe:4096
    """

    corpus: Corpora = ("chitchat",)
    tokenizer: Annotated[str, tyro.conf.arg(help="gpt2, bpe:SIZE, or a tokenizer.json")] = "gpt2"
    set_: Set = ()
    json: Json = False

    def run(self) -> None:
        from cvfp.data.dataset import open_dataset
        from cvfp.records.config import RunConfig

        named = {"data.corpus": list(self.corpus), "data.tokenizer": self.tokenizer}
        config = RunConfig.from_settings(named | settings_of(self.set_), "data stats")
        figures = open_dataset(config.data, lambda text: print(text, file=sys.stderr)).stats()
        _print("What the corpus holds", figures, self.json)


@dataclass(frozen=True)
class Tokenize:
    """Count the documents, tokens and bytes of a file or folder.

    Example: cvfp data tokenize some-text.txt
    """

    file: tyro.conf.Positional[Path]
    tokenizer: Annotated[str, tyro.conf.arg(help="gpt2 or a tokenizer.json")] = "gpt2"
    text_field: TextField = None
    json: Json = False

    def run(self) -> None:
        from cvfp.data.dataset import count_tokens

        size = count_tokens(self.file, self.tokenizer, self.text_field, print_note)
        _print(str(self.file), asdict(size), self.json)


Command = (
    Annotated[Stats, tyro.conf.subcommand("stats")] | Annotated[Tokenize, tyro.conf.subcommand("tokenize")]
)


def data(command: tyro.conf.OmitSubcommandPrefixes[tyro.conf.OmitArgPrefixes[Command]]) -> int:
    """Look at data: `data stats` of a corpus, `data tokenize` of a file."""
    command.run()
    return 0


def _print(title: str, figures: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(figures)
        return
    rows = [(name.replace("_", " "), value_text(value)) for name, value in dotted(figures).items()]
    print_table(title, ("figure", "value"), rows)
