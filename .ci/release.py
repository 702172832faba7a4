"""`make release`: what a release of this tree would upload, and what is still missing for one.

Uploads nothing. Exit code 1 while something is missing.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATE = r"\d{4}-\d{2}-\d{2}"


def found(root: Path, file: str, pattern: str) -> str | None:
    """What the group of a pattern is in a file, at its first place; None where it is nowhere."""
    match = re.search(pattern, (root / file).read_text(encoding="utf-8"), re.MULTILINE)
    return match and match[1]


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True)
    return done.stdout.strip()


def missing(root: Path) -> Iterator[str]:
    """What a release of the tree still needs, a line each."""
    version = found(root, "src/cvfp/__init__.py", r'^__version__ = "(.+)"$')
    newest = found(root, "CHANGELOG.md", r"^## \[(.+?)\]")
    if newest != version:
        yield f"CHANGELOG.md begins with {newest}: write the changes of {version}"
    dated = found(root, "CHANGELOG.md", rf"^## \[{re.escape(str(version))}\] - ({DATE})$")
    if dated is None:
        yield f"CHANGELOG.md has no date: ## [{version}] - YYYY-MM-DD"
    if found(root, "CITATION.cff", r"^version: (\S+)$") != version:
        yield f"CITATION.cff is of another version: version: {version}"
    if dated is not None and found(root, "CITATION.cff", rf"^date-released: ({DATE})$") != dated:
        yield f"CITATION.cff has another date or none: date-released: {dated}"
    if git(root, "status", "--porcelain"):
        yield "the tree has changes that are not committed: git status"
    if f"v{version}" not in git(root, "tag", "--points-at", "HEAD").split():
        yield f"this commit has no tag: git tag --annotate v{version} --message 'cvfp {version}'"


def main(folder: str) -> int:
    files = sorted(Path(folder).iterdir())
    print("A release would upload:")
    for path in files:
        data = path.read_bytes()
        print(f"  {path}  {len(data):,} bytes  SHA-256 {hashlib.sha256(data).hexdigest()}")
    lines = list(missing(ROOT))
    if lines:
        print("Before that:", *(f"  {line}" for line in lines), sep="\n")
        return 1
    print(f"Nothing is missing, and nothing was uploaded: python -m twine upload {' '.join(map(str, files))}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
