"""The errors a user can cause or meet. Each carries the exit code of the command line contract."""

import difflib
import unicodedata
from collections.abc import Iterable


class CvfpError(Exception):
    """The work failed or is partial (exit code 1). The message is one line that a user can act on."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class InputError(CvfpError, ValueError):
    """Wrong usage or input (exit code 2): the message says what is wrong, where, and what is allowed."""

    exit_code = 2


class WriteError(CvfpError):
    """A file cannot be written: the disk is full, or the directory read-only. No point is to blame for it."""


class DivergedError(CvfpError):
    """Training has left the finite numbers: in a group, in all processes at the same step."""


class LostError(CvfpError):
    """One of the processes that train together cannot go on, so none can. No point is to blame for it."""


class CrowdedError(CvfpError):
    """Memory ran out on a device that several processes share. No point is to blame: it runs again."""


def near(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'quickstart'?)` where a known name is close to this one, else nothing."""
    spelled = {one.lower(): one for one in known}
    found = difflib.get_close_matches(name.lower(), list(spelled), n=1, cutoff=0.6)
    return f" (did you mean {spelled[found[0]]!r}?)" if found else ""


def one_line(text: str) -> str:
    """`text` with the characters that break a line, or steer a terminal, as escapes."""
    return "".join(
        ascii(sign)[1:-1] if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") else sign for sign in text
    )
