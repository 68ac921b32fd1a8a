"""What scripts rely on: one JSON object, no colours in pipes, silence, completion."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepfinder_dask.cli import main
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts

CLASSES = (ParticleClass("ribosome", 1, radius=80.0),)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """particles.parquet: 3 ribosomes."""
    monkeypatch.chdir(tmp_path)
    centres = np.array([[4.0, 5.0, 6.0], [14.0, 5.0, 6.0], [14.0, 15.0, 16.0]])
    facts = TomogramFacts(10.0, (24, 28, 36))
    Particles.from_voxels(
        centres, tomogram="TS_01", facts=facts, labels=[1, 1, 1], sizes=[10, 20, 30], classes=CLASSES
    ).write("particles.parquet")
    return tmp_path


def facts_of(*words: object, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """The one JSON object that a command prints, and nothing else."""
    assert main([str(word) for word in words]) == 0, capsys.readouterr().err
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.count("\n") == 1
    return dict(json.loads(captured.out))


def test_verbs_answer_scripts(here: Path, mrc: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each verb of stage II, with what the next one needs; numbers agree with the files."""
    made = facts_of("convert", mrc, "-o", "a.zarr", "--json", capsys=capsys)
    assert made["tomograms"] == [
        {"path": str(here / "a.zarr"), "shape": [24, 28, 36], "voxel_size": [10.0, 10.0, 10.0]}
    ]
    segment = ["segment", "a.zarr", "-w", weights, "--json"]
    assert facts_of(*segment, "--plan", capsys=capsys)["counts"] == [1, 1, 1]
    segmented = facts_of(*segment, "-o", "seg.zarr", capsys=capsys)
    assert segmented["shape"] == [24, 28, 36]
    assert segmented["classes"] == {"ribosome": 1, "proteasome": 2}
    verified = facts_of("verify", "seg.zarr", "--json", capsys=capsys)
    assert verified["whole"] is True
    assert verified["blocks"] == 1
    clustered = facts_of("cluster", "seg.zarr", "-o", "found.parquet", "--json", "-q", capsys=capsys)
    found = Particles.read("found.parquet")
    assert (clustered["count"], clustered["classes"]) == (len(found), dict(found.counts()))
    far = ["distance", "found.parquet", "-s", "seg.zarr", "--structure", "ribosome", "-o", "far.parquet", "--json"]
    assert facts_of(*far, capsys=capsys)["measured"] == len(found)
    located = facts_of("locate", mrc, "-w", weights, "-o", "all", "--json", capsys=capsys)
    assert located["classes"] == clustered["classes"]
    assert located["seconds"] > 0  # type: ignore[operator]
    assert Path(str(located["folder"]), "summary.json").exists()


def test_particle_lists_answer_scripts(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported = facts_of("export", "particles.parquet", "-o", "p.xml", "--json", capsys=capsys)
    assert (exported["files"], exported["count"]) == (["p.xml"], 3)
    words = ("import", "p.xml", "-o", "back.parquet", "-v", "10", "--json")
    assert facts_of(*words, capsys=capsys)["count"] == 3
    both = ("particles.parquet", "particles.parquet")
    scores = facts_of("evaluate", *both, "--json", capsys=capsys)
    assert scores["overall"]["f1"] == 1  # type: ignore[index]
    assert facts_of("consensus", *both, "--names", "a", "b", "-o", "both", "--json", capsys=capsys)
    assert facts_of("tune", *both, "--json", capsys=capsys)
    assert facts_of("info", "particles.parquet", "--json", capsys=capsys)


def test_failures_leave_standard_output_empty(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cluster", "none.zarr", "-o", "b.parquet", "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


def test_verbose_tells_settings_and_where_errors_come_from(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", "particles.parquet", "-o", "p.star", "--binning", "4"]
    assert main([*words, "--verbose"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("exported 3 particles")
    assert "  binning = 4.0  (given)\n" in captured.err
    assert "  overwrite = False\n" in captured.err
    assert main([*words, "--verbose", "--json"]) == 2, "it is there already"
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" in captured.err
    assert captured.err.splitlines()[-1].startswith("error: ")
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


ESCAPE = b"\x1b["


def on_terminal(words: list[str], **variables: str) -> bytes:
    """What a command writes where it thinks that it writes to a terminal."""
    ours, theirs = pty.openpty()
    left = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE")}
    environment = {**left, "TERM": "xterm-256color", **variables}
    with subprocess.Popen([sys.executable, "-m", "deepfinder_dask", *words], stdout=theirs, env=environment) as process:
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(ours, 4096):
                said += piece
        except OSError:  # how Linux says that the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 0
    return said


def colours_in(said: bytes) -> list[bytes]:
    """Codes that set a colour; bold and dim are none."""
    codes = [part.split(b"m")[0].split(b";") for part in said.split(ESCAPE)[1:]]
    return [code for parts in codes for code in parts if code[:1] in (b"3", b"4", b"9") and len(code) > 1]


def test_colours_are_for_terminals() -> None:
    words = ["segment", "--help"]
    piped = subprocess.run([sys.executable, "-m", "deepfinder_dask", *words], capture_output=True, check=True)
    assert ESCAPE not in piped.stdout
    assert colours_in(on_terminal(words))
    assert not colours_in(on_terminal(words, NO_COLOR="1"))


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("deepfinder seg", {"segment"}),
        ("deepfinder co", {"convert", "consensus", "completion"}),
        ("deepfinder weights ", {"import"}),
        ("deepfinder segment a.zarr --prec", {"--precision"}),
        ("deepfinder segment a.zarr --precision ", {"auto", "fp32", "bf16"}),
        ("deepfinder cluster a.zarr --method ", {"mean-shift", "components"}),
    ],
)
def test_bash_completes(typed: str, offered: set[str], script: Path) -> None:
    """The script, read by a real bash, gives what fits where the cursor is."""
    words = typed.split(" ")
    asked = "\n".join(
        [
            f"source {script}",
            f"COMP_WORDS=({' '.join(words[:-1])} '{words[-1]}')",
            f"COMP_CWORD={len(words) - 1}",
            f"COMP_LINE='{typed}' COMP_POINT={len(typed)}",
            "function=$(complete -p deepfinder | sed 's/.*-F \\([^ ]*\\).*/\\1/')",
            f"$function deepfinder '{words[-1]}' '{words[-2]}'",
            'printf "%s\\n" "${COMPREPLY[@]}"',
        ]
    )
    done = subprocess.run(["bash", "--norc", "-c", asked], capture_output=True, text=True, timeout=60, check=False)
    assert {word.strip() for word in done.stdout.split("\n") if word.strip()} >= offered, done.stderr
    if len(offered) == 1:
        assert {word.strip() for word in done.stdout.split()} == offered


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``deepfinder completion bash`` prints."""
    path = tmp_path_factory.mktemp("completion") / "deepfinder.bash"
    done = subprocess.run(
        [sys.executable, "-m", "deepfinder_dask", "completion", "bash"], capture_output=True, check=True
    )
    path.write_bytes(done.stdout)
    return path


HEAVY = {"torch", "dask", "distributed", "zarr", "pandas", "pyarrow", "numba", "scipy", "matplotlib", "h5py"}


@pytest.mark.parametrize("words", [["--help"], ["segment", "--help"], ["completion", "bash"]], ids=" ".join)
def test_nothing_heavy_is_loaded_for_help(words: list[str]) -> None:
    code = (
        "import sys\n"
        "from deepfinder_dask.cli import main\n"
        f"main({words!r})\n"
        f"sys.stderr.write(' '.join(sorted({HEAVY!r} & set(sys.modules))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_folder_is_viewed_with_its_own_particles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --particles the function is left to find those that locate left."""
    import deepfinder_dask.viewing as viewing

    given: list[object] = []

    class Shown:
        url = "http://127.0.0.1/"

        def __enter__(self) -> Shown:
            return self

        def __exit__(self, *_: object) -> None: ...

        def wait(self) -> None: ...

    def view(tomogram: str, particles: object, **_: object) -> Shown:
        given.append(particles)
        return Shown()

    monkeypatch.setattr(viewing, "view", view, raising=False)
    assert main(["view", "found", "--no-open"]) == 0
    assert main(["view", "found", "-p", "a.parquet", "--no-open"]) == 0
    assert given == [None, ["a.parquet"]]
