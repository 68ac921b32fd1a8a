"""The command and its verbs, in the order of the work."""

from __future__ import annotations

from cyclopts import Group, Parameter

from deepfinder_dask import __version__
from deepfinder_dask.cli.pages import Command

HELP = """Find macromolecules in cryo-electron tomograms of any size.

`deepfinder locate TOMOGRAM -w WEIGHTS -o FOLDER` does the whole job; the other verbs are its steps, and what comes
before and after. `deepfinder VERB --help` shows the options of a verb, with examples.
"""

OTHER = "Other"
"""Where ``--help`` and ``--version`` are listed as well."""

app = Command(
    name="deepfinder",
    help=HELP,
    version=__version__,
    version_flags=("--version",),
    default_parameter=Parameter(negative_iterable=()),
    suppress_keyboard_interrupt=False,
    group_commands=Group(OTHER, sort_key=98),
    group_parameters=Group("Options", sort_key=99),
)

app.examples = """\
# a small tomogram whose particles are known; find them; compare
deepfinder simulate demo -o truth
deepfinder locate truth/demo.zarr -w demo -o found
deepfinder evaluate truth/demo_particles.parquet found/particles.parquet
# for scripts: one JSON object
deepfinder segment truth/demo.zarr -w demo --plan --json"""

STAGES = {
    "Bring in": {
        "convert": ("convert:convert", "Convert tomograms to OME-Zarr with a pyramid and statistics."),
        "info": ("info:info", "Say what a tomogram, a store or a table of particles is."),
        "import": ("exchange:import_", "Read a particle list of another program."),
        "weights": ("weights:weights", "Import weights of other programs."),
    },
    "Stage I: train": {
        "simulate": ("simulate:simulate", "Simulate tomograms whose particles are known."),
        "annotate": (
            "annotate:annotate",
            "Mark particles in the slices of a tomogram, in the browser; or accept and reject what a network found.",
        ),
        "target": (
            "target:target",
            "Draw the label map that a network is trained on, from the positions of particles.",
        ),
        "train": ("train:train", "Train a network on tomograms whose particles are known."),
    },
    "Stage II: find": {
        "segment": ("segment:segment", "Give each voxel of a tomogram a class and a probability."),
        "verify": ("segment:verify", "Check that a segmentation still holds what its workers wrote."),
        "cluster": ("cluster:cluster", "Turn a label map into particles."),
        "locate": ("locate:locate", "Find the particles in a tomogram: convert, segment, cluster, export, draw."),
        "distance": ("distance:distance", "Measure how far particles are from a structure, and filter by it."),
        "export": ("exchange:export", "Write particles for another program."),
    },
    "Judge": {
        "evaluate": ("evaluate:evaluate", "Compare found particles with true ones, one to one."),
        "tune": (
            "tune:tune",
            "Choose the sizes and scores below which particles are dropped, on annotated tomograms.",
        ),
        "consensus": (
            "consensus:consensus",
            "Bring particles of several methods or annotators together, one to one.",
        ),
    },
    "Look": {
        "view": ("view:view", "Look at a tomogram in the browser, with its labels, scores and particles."),
    },
    "Campaigns": {
        "run": ("run:run", "Find the particles in all tomograms of a campaign, on any cluster."),
        "status": ("run:status", "Say how far a campaign is."),
        "report": ("report:report", "Write the page that shows what a campaign found."),
    },
    OTHER: {
        "completion": ("completion:completion", "Complete verbs and options in the shell."),
    },
}
"""Verbs by what they are for, in the order of the work: where each is (its module is loaded when it is used), and what
it does."""

VERBS: dict[str, tuple[str, str]] = {name: entry for verbs in STAGES.values() for name, entry in verbs.items()}
"""All verbs in that order."""

for number, (stage, verbs) in enumerate(STAGES.items()):
    group = app.group_commands if stage == OTHER else Group(stage, sort_key=number)
    for place, (name, (home, summary)) in enumerate(verbs.items()):
        app.command(f"{__package__}.{home}", name=name, help=summary, sort_key=place, group=group)
