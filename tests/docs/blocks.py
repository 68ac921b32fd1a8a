"""Blocks of commands and of Python in the documents."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]*?) -->\n)?```(?P<language>bash|sh|console|python)\n(?P<code>.*?)^```",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """A block as it stands in a document."""

    document: str
    """Path from the root of the repository."""
    line: int
    """Line of its first line of code."""
    language: str
    """``bash``, ``sh``, ``console`` or ``python``."""
    code: str
    """What is in it."""
    reason: str | None
    """Why it is not run; None if it is."""

    def commands(self) -> list[list[str]]:
        """Words of each command; comments are left out, and lines that a backslash continues are joined."""
        lines = self.code.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line.removeprefix("$ "), comments=True))]


def blocks_of(path: Path) -> list[Block]:
    """All blocks of a document, in order."""
    text = path.read_text("utf-8")
    return [
        Block(
            path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name,
            text.count("\n", 0, found.start("code")) + 1,
            found["language"],
            found["code"],
            found["reason"],
        )
        for found in FENCE.finditer(text)
    ]
