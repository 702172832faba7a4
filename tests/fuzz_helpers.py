"""Bad input: damaged files, and the judgement that what comes of them is a value or one line of ours."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from cvfp.records.errors import CvfpError


def tried(examples: int) -> settings:
    """So many examples in the long run, a fifth in the short one: the same every time, without a clock."""
    if settings.get_current_profile_name() != "many":
        examples = max(examples // 5, 8)
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    return settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=slow)


def judged(call: Callable[[], Any], *names: str) -> Any:
    """What `call` returns, or its `CvfpError`: one line that holds one of `names`. Nothing else gets out."""
    try:
        return call()
    except CvfpError as error:
        line = str(error)
        assert line.strip() and len(line.splitlines()) == 1, repr(line)
        assert not names or any(name in line for name in names), line
        return error


def refused(call: Callable[[], Any], *names: str) -> str:
    """The line that `call` is refused with."""
    error = judged(call, *names)
    assert isinstance(error, CvfpError), f"was taken: {error!r}"
    return str(error)


def written(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return path


def _spliced(data: bytes, start: int, length: int, piece: bytes) -> bytes:
    start = start % (len(data) + 1)
    return data[:start] + piece + data[start + length :]


PIECES = [
    b"",
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"\n\n",
    b"\t",
    b'"',
    b"{",
    b"[" * 200,
]
PIECES += [b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"x" * 5000, b"\xe2\x80\xa8", b"\x1b[2J", b"'", b"\\"]


def damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """`data` cut, with bytes flipped or replaced, in another encoding, or other bytes altogether."""
    place = st.integers(0, max(len(data), 1))
    splice = st.builds(_spliced, st.just(data), place, st.sampled_from([0, 1, 2, 8]), st.sampled_from(PIECES))
    flip = st.builds(_spliced, st.just(data), place, st.just(1), st.binary(min_size=1, max_size=2))
    text = data.decode("latin-1")
    encoded = st.sampled_from(["utf-16", "utf-16-le", "utf-32", "utf-8-sig"]).map(text.encode)
    lines = st.just(data.replace(b"\n", b"\r\n"))
    return st.one_of(splice, flip, place.map(lambda end: data[:end]), encoded, lines, st.binary(max_size=200))


VALUES = [None, True, -1, 0, 10**30, 10**400, 1.5, 1e308, 5e-324, float("nan"), float("inf"), "x", "", "a\nb"]
VALUES += ["\0", "\ud800", "../../x", "/x", [], {}, [[]], {"x": 1}, "<script>", "9" * 5000]


def places(value: Any, above: tuple = ()) -> list[tuple]:
    """The path of every value in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [above, *(path for key, each in inner for path in places(each, (*above, key)))]


def swapped(value: Any) -> st.SearchStrategy[Any]:
    """`value` with one of its values taken away, or another in its place."""
    change = st.one_of(st.sampled_from(VALUES), st.just(KeyError))
    return st.builds(_swap, st.just(value), st.sampled_from(places(value)), change)


def _swap(value: Any, path: tuple, new: Any) -> Any:
    if not path:
        return None if new is KeyError else new
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    if new is KeyError:
        del inner[path[-1]]
    else:
        inner[path[-1]] = copy.deepcopy(new)
    return value


def damaged_json(value: Any) -> st.SearchStrategy[bytes]:
    """A JSON file of `value`, damaged as text or in one of its values."""
    text = json.dumps(value)
    twice = text[:-1] + "," + text[1:] if text.startswith("{") and value else text
    swaps = swapped(value).map(lambda each: json.dumps(each).encode())
    return st.one_of(swaps, swaps, damaged(text.encode()), st.just(twice.encode()))
