"""Analysis without training: fit, published."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from cvfp.cli.options import Json, Lang, one_of, optional, print_json, print_markdown, print_table
from cvfp.records.errors import InputError, one_line
from cvfp.records.files import check_out


def fit(
    files: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE [FILE ...]")]],
    x: Annotated[str | None, optional("COLUMN", "token counts")] = None,
    y: Annotated[str | None, optional("COLUMN", "perplexities or losses")] = None,
    by: Annotated[
        str | None,
        optional(
            "COLUMN,...",
            "what tells curves apart; without it arm and config_name, where they are there; none: one curve",
        ),
    ] = None,
    unit: Annotated[
        Literal["nats", "bits", "ppl"] | None,
        one_of("nats", "bits", "ppl"),
        optional(
            "nats|bits|ppl",
            "of y, per token or byte; without it what its name says, where its values fit that",
        ),
    ] = None,
    tokens_per_step: Annotated[float | None, optional("N", "x counts steps of N tokens each")] = None,
    window: Annotated[int | None, optional("N", "sizes per sliding window")] = None,
    extrapolate: Annotated[tuple[float, ...], optional("TOKENS [TOKENS ...]", "sizes to predict at")] = (),
    holdout: Annotated[
        int | None, optional("K", "hide the K largest sizes and predict them from the rest")
    ] = None,
    difference: Annotated[tuple[str, str] | None, optional("A B", "compare group B against group A")] = None,
    params: Annotated[
        tuple[str, ...],
        optional(
            "COLUMN [COLUMN ...]",
            "parameter counts: fit L(N, D) = E + A / N^a + B / D^b, by each count of several",
        ),
    ] = (),
    budget: Annotated[
        float | None, optional("FLOPS", "with --params: divide 6 * N * D FLOPs between parameters and data")
    ] = None,
    include_capped: Annotated[bool, tyro.conf.arg(help="fit runs that stopped at their cap, too")] = False,
    separator: Annotated[str | None, optional("SIGN", "between columns: , ; | tab or space")] = None,
    decimal: Annotated[
        Literal["point", "comma"] | None,
        one_of("point", "comma"),
        optional("point|comma", "the sign before decimals"),
    ] = None,
    encoding: Annotated[str | None, optional("NAME", "of the text: utf-8, utf-16, latin-1, ...")] = None,
    json: Json = False,
) -> int:
    """Scaling analysis of any table, whoever produced it.

    CSV and its dialects, JSON, JSONL; what trackers and trainers write. Several files are one table. What is
    guessed is said.

    Which form the loss follows, whether the exponent changes, forecasts, and how they did on hidden sizes.

    With --params: whether more parameters, more data or both lower the loss, and how to divide a budget.

    Example: cvfp fit results.csv --x tokens --y val_ppl --by config_name --holdout 1 --extrapolate 1e6 1e7
    """
    from cvfp.report.fit_cells import fit_tables, fit_texts
    from cvfp.report.joint_cells import joint_tables, joint_texts
    from cvfp.scaling.rows import Reading
    from cvfp.scaling.table import TableOptions, fit_joint_table, fit_table

    def note(text: str) -> None:
        print(one_line(text), file=sys.stderr)

    reading = Reading(encoding, _separator(separator), None if decimal is None else DECIMALS[decimal])
    options = TableOptions(
        x, y, by, unit, tokens_per_step, include_capped, window, extrapolate, holdout, difference, reading
    )
    if params:
        result = fit_joint_table(files, params, options, budget, note)
        tables, texts = joint_tables, joint_texts
    elif budget is not None:
        raise InputError("--budget: needs --params, the column of parameter counts")
    else:
        result = fit_table(files, options, note)
        tables, texts = fit_tables, fit_texts
    if json:
        print_json(result)
        return 0
    for title, header, rows in tables(result):
        print_table(title, header, rows, most=MOST_ROWS)
    for text in texts(result):
        print(text)
    return 0


DECIMALS: dict[str, Literal[".", ","]] = {"point": ".", "comma": ","}
MOST_ROWS = 60
"""Of a table that grows with its input."""


def _separator(name: str | None) -> str | None:
    from cvfp.scaling.delimited import SEPARATORS

    sign = None if name is None else {"tab": "\t", "\\t": "\t", "space": " "}.get(name, name)
    if sign is not None and sign not in SEPARATORS:
        raise InputError(f"--separator {name}: one of , ; | tab space is needed")
    return sign


def published(versions: tyro.conf.Positional[tuple[str, ...]] = ("v1", "v2", "v3"), lang: Lang = "en") -> int:
    """The published tables, recomputed; what does not follow is marked.

    Example: cvfp published v3
    """
    from cvfp.report.language import speaking
    from cvfp.report.published import published_report

    for name in versions:
        if versions.count(name) > 1:
            raise InputError(f"published: {name} is given twice")
    with speaking(lang):
        print(published_report(versions))
    return 0


def compare(
    sweeps: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="DIR|published:NAME")]],
    out: Annotated[Path | None, optional("DIR", "write the comparison here")] = None,
    lang: Lang = "en",
    json: Json = False,
) -> int:
    """Sweeps side by side: what changed, by how much, how sure.

    Takes two or more sweep directories, or published:v1, published:v2, published:v3. With --json also what
    the fitted laws say: difference of the exponents, which is ahead at 10 times the data, where they cross.

    Example: cvfp compare cvfp-runs/v1 cvfp-runs/v2 --out v1-against-v2
    """
    from cvfp.report.compare import (
        comparison_answer,
        comparison_page,
        comparison_values,
        read_versions,
        write_comparison,
    )
    from cvfp.report.language import speaking

    if out is not None:
        check_out(out)
    versions = read_versions(sweeps)
    if json:
        print_json(comparison_values(versions))
        return 0
    with speaking(lang):
        if out is None:
            print(comparison_page(versions, None)[0])
            return 0
        page = next(path for path in write_comparison(versions, out) if path.suffix == ".html")
        print_markdown("\n\n".join(comparison_answer(versions)))
        print(f"Comparison: {page.resolve().as_uri()}")
    return 0
