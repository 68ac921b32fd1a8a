"""Options of a verb, made from the settings it shares with its function: stated once, documented once.

:func:`verb` turns every field of a settings dataclass into an option whose help is the docstring of the field. What
the command line adds — short names, how a size is written — is in one table here, by the name of the field.
"""

from __future__ import annotations

import inspect
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, make_dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from cyclopts import Group, Parameter

from deepfinder_dask.campaigns.reporting.words import duration
from deepfinder_dask.cli.narration import narrated
from deepfinder_dask.cli.pages import split_examples
from deepfinder_dask.cli.values import converter, format_bytes, to_bytes, to_shape, to_sizes, to_voxel_size
from deepfinder_dask.execution import silence

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Settings = type[DataclassInstance]
    Function = Callable[..., "str | Outcome | None"]

OPTIONS: dict[str, Parameter] = {
    "bandwidth": Parameter(metavar="VOXELS"),
    "block": Parameter(alias="-b", converter=converter(to_shape), n_tokens=1, accepts_keys=False, metavar="Z,Y,X"),
    "border": Parameter(metavar="Å"),
    "classes": Parameter(alias="-c", metavar="FILE.toml"),
    "device": Parameter(alias="-d"),
    "mask": Parameter(metavar="VOLUME"),
    "memory": Parameter(
        alias="-m", converter=converter(to_bytes), n_tokens=1, metavar="SIZE", show_default=format_bytes
    ),
    "min_distance": Parameter(metavar="Å|RADIIr"),
    **dict.fromkeys(
        ("min_size", "max_size"),
        Parameter(converter=converter(to_sizes), n_tokens=1, accepts_keys=False, metavar="VOXELS|CLASS=VOXELS,…"),
    ),
    "shape": Parameter(converter=converter(to_shape), n_tokens=1, accepts_keys=False, metavar="Z,Y,X"),
    "tomograms": Parameter(consume_multiple=True, metavar="NAME"),
    "voxel_size": Parameter(
        alias="-v", converter=converter(to_voxel_size), n_tokens=1, accepts_keys=False, metavar="Å"
    ),
    "workers": Parameter(alias="-j", metavar="N"),
    "scheduler": Parameter(metavar="ADDRESS"),
}
"""How fields of settings are written on the command line, where their type does not say it."""

COMMON = Group("Common options", sort_key=100)

Output = Annotated[str, Parameter(name=("--output", "-o"), metavar="PATH")]
"""Where the result goes."""
Weights = Annotated[str, Parameter(name=("--weights", "-w"), metavar="FILE")]
"""A weights file, or the name of weights that come with the package."""
Quiet = Annotated[
    bool,
    Parameter(
        name=("--quiet", "-q"),
        negative="",
        show_default=False,
        group=COMMON,
        help="Show no progress, and say nothing on success.",
    ),
]
Verbose = Annotated[
    bool,
    Parameter(
        name="--verbose",
        negative="",
        show_default=False,
        group=COMMON,
        help="Say on standard error with which settings the work is done, what libraries warn of, and where in the "
        "program an error comes from.",
    ),
]
AsJson = Annotated[
    bool,
    Parameter(
        name="--json",
        negative="",
        show_default=False,
        group=COMMON,
        help="Print one JSON object on standard output, and nothing else there.",
    ),
]
Json = Annotated[bool, Parameter(name="--json", negative="", show_default=False, group=COMMON)]
"""Print one JSON object instead of words."""


@dataclass(frozen=True)
class Outcome:
    """What a verb did, for people and for scripts."""

    words: str
    """One line, and notes in further ones; empty where another process speaks."""
    facts: dict[str, Any]
    """The same for ``--json``; ``seconds``, the time taken, is added where it is none of them."""


def verb(settings: Settings | None = None, **renamed: Parameter) -> Callable[[Function], Function]:
    """Make a command of a function that returns what to say when it is done.

    Parameters
    ----------
    settings : type, optional
        Frozen dataclass whose fields become options; the function takes an instance as ``settings``.
    **renamed : Parameter
        How single fields are written, where this verb differs from ``OPTIONS``.

    Returns
    -------
    callable
        Decorator. The command also takes ``--quiet`` and ``--verbose``, and adds the time taken to the first line of
        what the function returns. A result that ends with a line break was asked for, such as JSON: it is printed as it
        is, and always. A function that says in its annotation that it returns an :class:`Outcome` gets ``--json``. The
        section *Examples* of its docstring goes to the end of the help page.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        hints = get_type_hints(function, include_extras=True)
        parameters = dict(signature.parameters)
        if settings is not None:
            options = _as_options(settings, renamed)
            hints["settings"] = Annotated[options, Parameter(name="*")]
            # An instance of just this type: where pydantic is loaded, Cyclopts has it check the default as well.
            parameters["settings"] = parameters["settings"].replace(default=options())
        common: dict[str, Any] = {"quiet": Quiet, "verbose": Verbose}
        if hints.get("return") is Outcome:
            common["output_json"] = AsJson
        for name, hint in common.items():
            hints[name] = hint
            parameters[name] = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False)

        @wraps(function)
        def command(
            *words: Any, quiet: bool = False, verbose: bool = False, output_json: bool = False, **given: Any
        ) -> None:
            if settings is not None:
                chosen = given.get("settings", settings())
                given["settings"] = settings(**{f.name: getattr(chosen, f.name) for f in fields(settings)})
            if quiet:
                silence()
            start = time.perf_counter()
            try:
                with narrated(function.__name__, given.get("settings"), wanted=verbose):
                    made = function(*words, **given)
            finally:
                silence(False)
            said = (made.words or None) if isinstance(made, Outcome) else made
            if isinstance(made, Outcome) and made.words and output_json:
                facts = {**made.facts, "seconds": round(time.perf_counter() - start, 3)} | made.facts
                sys.stdout.write(json.dumps(facts, ensure_ascii=False) + "\n")
            elif said is not None and said.endswith("\n"):
                sys.stdout.write(said)
            elif said is not None and not quiet:
                done, *notes = said.split("\n")
                sys.stdout.write("\n".join([f"{done} ({duration(time.perf_counter() - start)})", *notes]) + "\n")

        command.__annotations__ = hints
        words, examples = split_examples(inspect.getdoc(function) or "")
        command.__doc__ = words
        command.examples = examples  # type: ignore[attr-defined]  # the help page shows them
        command.__signature__ = signature.replace(parameters=list(parameters.values()))  # type: ignore[attr-defined]  # inspect reads it
        return command

    return decorate


def _as_options(settings: Settings, renamed: dict[str, Parameter]) -> type:
    """A dataclass like the settings, with each field annotated for the command line."""
    hints = get_type_hints(settings)
    annotated: Any = Annotated  # these annotations are made at run time, where no type checker looks
    columns: list[tuple[str, Any, Any]] = []
    for one in fields(settings):
        flag = hints[one.name] is bool
        parts = [renamed.get(one.name, OPTIONS.get(one.name, Parameter()))]
        if flag and one.default is False:
            parts.append(Parameter(negative=""))  # no --no-flag, which would change nothing
        if flag or one.default is None or one.default == ():
            parts.append(Parameter(show_default=False))
        columns.append((one.name, annotated[(hints[one.name], *parts)], field(default=one.default)))
    # Without its module Cyclopts takes the class for one of Python's own.
    home = {"__module__": settings.__module__}
    return make_dataclass(f"{settings.__name__}Options", columns, bases=(settings,), frozen=True, namespace=home)
