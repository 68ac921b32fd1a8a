"""The command and its verbs, in the order of the work."""

from __future__ import annotations

from cyclopts import App, Group, Parameter

from deepfinder_dask import __version__

HELP = """Find macromolecules in cryo-electron tomograms of any size.

`deepfinder locate TOMOGRAM -w WEIGHTS -o FOLDER` does the whole job; the other verbs are its steps, and what comes
before and after.
"""

app = App(
    name="deepfinder",
    help=HELP,
    version=__version__,
    version_flags=("--version",),
    default_parameter=Parameter(negative_iterable=()),
    suppress_keyboard_interrupt=False,
    group_commands=Group("Verbs, in the order of the work", sort_key=0),
    group_parameters=Group("Options", sort_key=1),
)

VERBS = {
    "convert": ("convert:convert", "Convert tomograms to OME-Zarr with a pyramid and statistics."),
    "info": ("info:info", "Say what a tomogram, a store or a table of particles is."),
    "weights": ("weights:weights", "Import weights of other programs."),
    "simulate": ("simulate:simulate", "Simulate tomograms whose particles are known."),
    "target": ("target:target", "Draw the label map that a network is trained on, from the positions of particles."),
    "train": ("train:train", "Train a network on tomograms whose particles are known."),
    "segment": ("segment:segment", "Give each voxel of a tomogram a class and a probability."),
    "verify": ("segment:verify", "Check that a segmentation still holds what its workers wrote."),
    "cluster": ("cluster:cluster", "Turn a label map into particles."),
    "locate": ("locate:locate", "Find the particles in a tomogram: convert, segment, cluster, export, draw."),
    "distance": ("distance:distance", "Measure how far particles are from a structure, and filter by it."),
    "evaluate": ("evaluate:evaluate", "Compare found particles with true ones, one to one."),
    "tune": ("tune:tune", "Choose the sizes and scores below which particles are dropped, on annotated tomograms."),
    "consensus": ("consensus:consensus", "Bring particles of several methods or annotators together, one to one."),
    "export": ("exchange:export", "Write particles for another program."),
    "import": ("exchange:import_", "Read a particle list of another program."),
}
"""Verbs in the order of the work: where each is (its module is loaded when it is used), and what it does."""

for number, (name, (place, summary)) in enumerate(VERBS.items()):
    app.command(f"{__package__}.{place}", name=name, help=summary, sort_key=number)
