"""What keeps the package readable: imports point one way, rooms keep their doors, modules stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "deepfinder_dask"
ROOMS = (
    "errors",
    "blocks",
    "execution",
    "particles",
    "tomograms",
    "simulation",
    "targets",
    "networks",
    "segmentation",
    "clustering",
    "evaluation",
    "viewing",
    "training",
    "campaigns",
    "cli",
)
"""In the order of the data: a room imports only rooms above it."""
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 400
HEAVY = (
    "torch",
    "dask",
    "distributed",
    "zarr",
    "pandas",
    "matplotlib",
    "scipy",
    "skimage",
    "sklearn",
    "pyarrow",
    "h5py",
)
"""Libraries that are slow to import: the command line loads them when a verb runs."""


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def room_of(path: Path) -> str:
    """Room of a module: its folder, or its own name at the top."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and full name of every imported module, ``from package import module`` included, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def rooms_imported(tree: ast.AST) -> set[str]:
    found = set()
    for _, module in imports(tree):
        parts = module.split(".")
        if parts[0] == "deepfinder_dask" and len(parts) > 1 and parts[1] in ROOMS:
            found.add(parts[1])
    return found


def test_every_room_is_known() -> None:
    """A new folder takes its place in the order, and none is empty."""
    for path in PACKAGE.iterdir():
        if path.is_dir() and path.name != "__pycache__":
            assert path.name in ROOMS, f"{path.name} has no place in the order of rooms"
            assert (path / "__init__.py").is_file()


@pytest.mark.parametrize("path", [p for p in MODULES if room_of(p) in ROOMS], ids=name_of)
def test_imports_point_upwards(path: Path) -> None:
    """A room imports itself and rooms above it, also inside functions; so there are no cycles between rooms."""
    room = ROOMS.index(room_of(path))
    below = [other for other in rooms_imported(tree_of(path)) if ROOMS.index(other) > room]
    assert not below, f"{name_of(path)} imports {below}, which come after it"


def test_modules_of_a_room_have_no_cycle() -> None:
    """Import-time cycles between modules; imports in functions and for type checkers do not count."""
    names = {".".join(["deepfinder_dask", *p.relative_to(PACKAGE).with_suffix("").parts]): p for p in MODULES}
    graph = {name: _imported_at_once(tree_of(path), names) - {name} for name, path in names.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


def _imported_at_once(tree: ast.Module, names: dict[str, Path]) -> set[str]:
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {module for _, module in imports(node) if module in names and not module.endswith("__init__")}
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_tomograms_calls_zarr(path: Path) -> None:
    lines = [line for line, module in imports(tree_of(path)) if module.split(".")[0] in ("zarr", "numcodecs")]
    assert not lines or room_of(path) == "tomograms", f"{name_of(path)}:{lines[0]} calls zarr"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_is_unpickled(path: Path) -> None:
    """Files that run code when they are read have no place here."""
    tree = tree_of(path)
    unsafe = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
    assert not [module for _, module in imports(tree) if module.split(".")[0] in unsafe]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("torch.load", "pd.read_pickle", "pandas.read_pickle", "eval", "exec")
            for word in node.keywords:
                if word.arg == "allow_pickle":
                    assert isinstance(word.value, ast.Constant)
                    assert word.value.value is False, f"{name_of(path)}:{node.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_library_manners(path: Path) -> None:
    """No print, no assert, no exit, no exception caught whatever it is."""
    for node in ast.walk(tree_of(path)):
        where = f"{name_of(path)}:{getattr(node, 'lineno', 0)}"
        assert not isinstance(node, ast.Assert), f"{where} asserts"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("print", "exit", "quit", "os._exit"), f"{where} calls {called}"
            assert called != "sys.exit" or path.name == "__main__.py", f"{where} exits"
        if isinstance(node, ast.ExceptHandler):
            caught = "" if node.type is None else ast.unparse(node.type)
            assert caught not in ("", "Exception", "BaseException"), f"{where} catches everything"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_are_short(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST, f"{name_of(path)} has {lines} lines"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_what_is_public_is_documented(path: Path) -> None:
    tree = tree_of(path)
    assert ast.get_docstring(tree), f"{name_of(path)} says nothing of itself"
    for node in ast.walk(tree):
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        for child in getattr(node, "body", []) if isinstance(node, ast.Module | ast.ClassDef) else []:
            if isinstance(child, kinds) and not child.name.startswith("_"):
                private = isinstance(node, ast.ClassDef) and node.name.startswith("_")
                typed = any(isinstance(d, ast.Name) and d.id == "overload" for d in child.decorator_list)
                assert private or typed or ast.get_docstring(child), f"{name_of(path)}:{child.lineno} {child.name}"


@pytest.mark.parametrize("room", [p for p in PACKAGE.iterdir() if (p / "__init__.py").is_file()], ids=name_of)
def test_room_says_what_flows_in_and_out(room: Path) -> None:
    words = ast.get_docstring(tree_of(room / "__init__.py")) or ""
    assert "In:" in words, f"{room.name} does not say what flows in"
    assert "Out:" in words, f"{room.name} does not say what flows out"


@pytest.mark.parametrize("room", [p for p in PACKAGE.iterdir() if (p / "__init__.py").is_file()], ids=name_of)
def test_no_module_hides_a_name(room: Path) -> None:
    """A module called like a public function takes its place in the room as soon as it is imported."""
    public: set[str] = set()
    for node in tree_of(room / "__init__.py").body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            public = set(ast.literal_eval(node.value))
    clash = public & {p.stem for p in room.glob("*.py")}
    assert not clash, f"{room.name} has both a module and a public name {sorted(clash)}"


def run(code: str) -> str:
    """Standard output of a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "code",
    [
        "import deepfinder_dask",
        "from deepfinder_dask.cli import main; main(['--help'])",
        "from deepfinder_dask.cli import main; main(['--version'])",
        *[f"import deepfinder_dask.{name_of(p)[:-3].replace('/', '.')}" for p in sorted(PACKAGE.glob("*/settings.py"))],
    ],
)
def test_starting_is_light(code: str) -> None:
    """Importing the package, its settings and its help loads no heavy library."""
    loaded = run(f"{code}\nimport sys; print('\\nLOADED', *[m for m in {HEAVY!r} if m in sys.modules])")
    assert loaded.splitlines()[-1].split() == ["LOADED"]


def test_help_of_every_verb_is_light() -> None:
    code = (
        "from deepfinder_dask.cli import main\n"
        "from deepfinder_dask.cli.app import VERBS\n"
        "import sys\n"
        "assert [main([verb, '--help']) for verb in VERBS] == [0] * len(VERBS)\n"
        f"print('\\nLOADED', *[m for m in {HEAVY!r} if m in sys.modules])"
    )
    assert run(code).splitlines()[-1].split() == ["LOADED"]
