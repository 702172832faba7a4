"""Tab completion: a script for the shell that knows commands, options, files and the names of presets."""

from __future__ import annotations

import contextlib
import io
from typing import Annotated, Literal

import tyro

Shell = Literal["bash", "zsh"]
ENDS: dict[Shell, str] = {
    "bash": 'COMPREPLY=("${matches[@]}")\n',
    "zsh": "_describe 'cvfp completions' completion_array\n",
}
"""Where the script that tyro makes has found commands and options; it knows nothing of positional
arguments."""
ARGUMENTS: dict[Shell, str] = {
    "bash": """\
  local word="${COMP_WORDS[COMP_CWORD]}"
  if [[ $COMP_CWORD -gt 1 && "$word" != -* ]]; then
    IFS=$' \\t\\n'
    case "${COMP_WORDS[1]}" in
      run|tune) COMPREPLY+=($(compgen -W "PRESETS" -- "$word")) ;;
    esac
    COMPREPLY+=($(compgen -f -- "$word"))
  fi
""",
    "zsh": """\
  if [[ $CURRENT -gt 2 && "$PREFIX" != -* ]]; then
    case "${words[2]}" in
      run|tune) _alternative "presets:preset:(PRESETS)" "files:file:_files" ;;
      *) _files ;;
    esac
  fi
""",
}


def completion(shell: tyro.conf.Positional[Annotated[Shell, tyro.conf.arg(metavar="bash|zsh")]]) -> int:
    """Write tab completion for a shell: commands, options, presets.

    Example: cvfp completion bash
    """
    from cvfp.cli.commands import PLACES, command
    from cvfp.lab.presets import PRESETS

    printed, asked = io.StringIO(), ["--tyro-print-completion", shell]
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        tyro.extras.subcommand_cli_from_dict(
            {name: command(name) for name in PLACES}, prog="cvfp", args=asked
        )
    end = ENDS[shell]
    assert end in printed.getvalue()
    print(printed.getvalue().replace(end, end + ARGUMENTS[shell].replace("PRESETS", " ".join(PRESETS))))
    return 0
