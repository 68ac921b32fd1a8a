"""Many files at once: paths with ``{tomogram}`` and ``{class}`` in them.

``picks/{tomogram}.mod`` stands for one file a tomogram, ``{tomogram}/{class}.ndjson`` for one a tomogram and class.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deepfinder_dask.errors import InputError, SettingsError
from deepfinder_dask.particles.table import Particles

_WORDS = ("tomogram", "class")
_FIELD = re.compile(r"\{(\w*)\}")


@dataclass(frozen=True)
class OneFile:
    """A file of many, and what its name says."""

    path: Path
    """Where it is."""
    tomogram: str | None = None
    """Tomogram in its name."""
    class_name: str | None = None
    """Class in its name."""


def is_template(path: str | Path) -> bool:
    """Whether a path has a placeholder.

    Raises
    ------
    SettingsError
        It has one that is unknown.
    """
    words = _FIELD.findall(str(path))
    unknown = [word for word in words if word not in _WORDS]
    if unknown:
        raise SettingsError(f"{path}: unknown placeholder {{{unknown[0]}}}; known are {{tomogram}} and {{class}}")
    return bool(words)


def matching_files(template: str | Path) -> list[OneFile]:
    """Files that fit a template, in order of their paths.

    Raises
    ------
    InputError
        There is none.
    """
    path = Path(template)
    fixed = path
    while _FIELD.search(str(fixed)):
        fixed = fixed.parent
    rest = path.relative_to(fixed)
    pattern = "/".join(re.sub(r"\*+", "*", _FIELD.sub("*", re.sub(r"([*?\[])", r"[\1]", p))) for p in rest.parts)
    seen: set[str] = set()
    expression = ""
    for text, word in re.findall(r"([^{]*)(?:\{(\w+)\})?", rest.as_posix()):
        expression += re.escape(text)
        if word:
            expression += f"(?P={word})" if word in seen else f"(?P<{word}>[^/]+)"
            seen.add(word)
    found = []
    for file in sorted(fixed.glob(pattern)) if fixed.is_dir() else []:
        match = re.fullmatch(expression, file.relative_to(fixed).as_posix())
        if match and file.is_file() and not file.name.startswith("."):
            words = match.groupdict()
            found.append(OneFile(file, words.get("tomogram"), words.get("class")))
    if not found:
        raise InputError(f"{path}: no such files (expected lists of particles)")
    return found


def parts_for(particles: Particles, template: str | Path) -> Iterator[tuple[Path, Particles]]:
    """File and particles of each tomogram (and class) by a template; also of tomograms without particles.

    Raises
    ------
    SettingsError
        A name cannot be part of a path, or two tomograms or classes would share a file.
    """
    text = str(template)
    words = set(_FIELD.findall(text))
    seen: set[Path] = set()
    counts = particles.counts()
    classes = [one.name for one in particles.classes if one.kind == "particle" or counts[one.name]]
    for tomogram in particles.tomograms if "tomogram" in words else [None]:
        part = particles if tomogram is None else particles.of_tomogram(tomogram)
        for name in classes if "class" in words else [None]:
            path = Path(_filled(text, {"tomogram": tomogram, "class": name}))
            if path in seen:
                raise SettingsError(f"{path}: would be written twice; rename a tomogram or class")
            seen.add(path)
            yield path, part if name is None else part.of_class(name)


def _filled(text: str, values: dict[str, str | None]) -> str:
    """Template with names in place of its words."""
    for word, value in values.items():
        if value is not None:
            if "{" + word + "}" in text and (re.search(r"[/\\{}\x00]", value) or value.startswith(".")):
                raise SettingsError(f"{word} {value!r} cannot be part of a file name; rename it (--rename OLD=NEW)")
            text = text.replace("{" + word + "}", value)
    return text
