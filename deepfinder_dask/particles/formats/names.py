"""Names of tomograms between programs: file names made plain, rules of renaming, and lists of numbered tomograms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from deepfinder_dask.errors import FormatError, SettingsError
from deepfinder_dask.particles.files import atomic_write
from deepfinder_dask.particles.table import Particles

_SUFFIX = re.compile(r"\.(tomostar|mrc|rec|map|hdf|st|ali|em|zarr|mdoc)$", re.IGNORECASE)
_WARP = re.compile(r"_\d+(\.\d+)?Apx$")


def tidy_name(name: str) -> str:
    """Tomogram of a file name: without folder, suffix, Warp's ``_10.00Apx`` and the prefix ``rec_``.

    >>> tidy_name("tomograms/rec_TS_01_10.00Apx.mrc"), tidy_name("007.tomostar"), tidy_name("tomo-1.5")
    ('TS_01', '007', 'tomo-1.5')
    """
    plain = name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    before = ""
    while plain != before:
        before = plain
        plain = _WARP.sub("", _SUFFIX.sub("", plain))
    return plain.removeprefix("rec_") or name


def tidy_names(path: Path, names: Iterable[str], tidy: bool) -> dict[str, str]:
    """Plain name of each different name that a file holds.

    Raises
    ------
    FormatError
        Two names would become one.
    """
    result: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name in dict.fromkeys(names):
        plain = tidy_name(name) if tidy else name
        if plain in taken:
            both = f"{taken[plain]!r} and {name!r}"
            raise FormatError(f"{path}: tomograms {both} would both be named {plain!r}; give --no-tidy-names")
        taken[plain] = name
        result[name] = plain
    return result


def renamed(particles: Particles, rules: Sequence[str]) -> Particles:
    """Particles with their tomograms renamed by rules ``OLD=NEW``, the first that fits; ``*`` stands for any text.

    Raises
    ------
    SettingsError
        A rule is none, fits no tomogram, or gives two tomograms one name.
    """
    if not rules:
        return particles
    names = list(particles.tomograms)
    mapping = rename_names(names, rules)
    if len(set(mapping.values())) < len(mapping):
        twice = sorted(name for name, new in mapping.items() if list(mapping.values()).count(new) > 1)
        raise SettingsError(f"--rename gives one name {mapping[twice[0]]!r} to the tomograms {twice}")
    table = particles.table.assign(tomogram=[mapping[name] for name in particles.table["tomogram"].tolist()])
    return Particles(table, {mapping[name]: facts for name, facts in particles.tomograms.items()}, particles.classes)


def rename_names(names: Iterable[str], rules: Sequence[str]) -> dict[str, str]:
    """New name of each name by rules ``OLD=NEW`` (see :func:`renamed`)."""
    mapping = {name: name for name in names}
    left = list(mapping)
    for rule in rules:
        old, sign, new = rule.partition("=")
        if not sign or not old or not new or old.count("*") > 1 or new.count("*") > old.count("*"):
            raise SettingsError(f"--rename: expected OLD=NEW, with at most one * in each, got {rule!r}")
        pattern = re.compile(re.escape(old).replace(r"\*", "(.*)"), re.DOTALL)
        fits = {name: one for name in left if (one := pattern.fullmatch(name))}
        if not fits:
            raise SettingsError(f"--rename {rule!r} fits none of the tomograms {list(mapping)}")
        for name, match in fits.items():
            mapping[name] = new.replace("*", match.group(1)) if "*" in new else new
        left = [name for name in left if name not in fits]
    return mapping


def read_numbered(path: Path) -> dict[int, str]:
    """Tomograms of a list with a number and a name or file on each line, as Dynamo's ``.doc`` files.

    Raises
    ------
    FormatError
        A line is none of these, or a number stands twice.
    """
    result: dict[int, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not a text file in UTF-8: {error.reason}") from error
    for count, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        number, *name = line.split(None, 1)
        if not number.isdigit() or not name:
            raise FormatError(f"{path}: line {count}: expected a number and a tomogram, found {line.strip()!r}")
        if int(number) in result:
            raise FormatError(f"{path}: line {count}: number {number} stands there twice")
        result[int(number)] = name[0].strip()
    return result


def write_numbered(names: Mapping[str, int], path: Path) -> None:
    """Write the list that :func:`read_numbered` reads."""
    with atomic_write(path) as temporary:
        temporary.write_text("".join(f"{number} {name}\n" for name, number in names.items()), encoding="utf-8")


def names_of_numbers(path: Path, numbers: Iterable[int], told: Sequence[str], tidy: bool) -> dict[int, str]:
    """Tomogram of each number in a file: as told, else by the list beside the file, else the number itself.

    The list has the name of the file with the suffix ``.doc``; one ``.doc`` alone in the folder will do.

    Raises
    ------
    SettingsError
        Names were told, but not for every number.
    FormatError
        A number is not in the list, or the list is damaged.
    """
    different = sorted(set(numbers))
    if told:
        if len(told) == len(different):
            return dict(zip(different, told, strict=True))
        if different and min(different) >= 1 and max(different) <= len(told):
            return {number: told[number - 1] for number in different}
        raise SettingsError(f"{path}: --tomograms names {len(told)} tomograms, the file has the numbers {different}")
    beside = path.with_suffix(".doc")
    lists = [beside] if beside.is_file() else sorted(path.parent.glob("*.doc"))
    if len(lists) != 1:
        return {number: str(number) for number in different}
    listed = read_numbered(lists[0])
    missing = [number for number in different if number not in listed]
    if missing:
        raise FormatError(f"{path}: tomogram {missing[0]} is not in {lists[0].name}, which has {sorted(listed)}")
    plain = tidy_names(lists[0], [listed[number] for number in different], tidy)
    return {number: plain[listed[number]] for number in different}


def numbered(names: Iterable[str]) -> dict[str, int]:
    """A number for each tomogram, from 1 in the order given."""
    return {name: number for number, name in enumerate(names, start=1)}
