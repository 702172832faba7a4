"""The JSON Schemas of sweep files and records, for editors and for other programs."""

from __future__ import annotations

from typing import Annotated

import tyro

from cvfp.cli.options import optional, print_table
from cvfp.records.errors import InputError, near


def schema(
    name: tyro.conf.Positional[Annotated[str | None, optional("[NAME]", "one of the list")]] = None,
) -> int:
    """Print a JSON Schema: of a sweep file, or of a record.

    Without a name, what there is. An editor completes a sweep file that begins with #:schema and the path.

    Example: cvfp schema sweep
    """
    from cvfp.lab.json_schema import TITLES, shipped_schema

    if name is None:
        print_table("JSON Schemas", ("name", "of what"), tuple(TITLES.items()))
        return 0
    if name not in TITLES:
        raise InputError(f"unknown schema {name!r}{near(name, TITLES)}; there are {', '.join(TITLES)}")
    print(shipped_schema(name), end="")
    return 0
