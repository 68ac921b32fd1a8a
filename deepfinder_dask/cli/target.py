"""``deepfinder target``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from deepfinder_dask.cli.options import Outcome, Output, verb
from deepfinder_dask.cli.values import converter, to_voxel_size
from deepfinder_dask.targets.settings import TargetSettings

if TYPE_CHECKING:
    from deepfinder_dask.targets import Target

NAMED = 3
"""Most pairs of overlapping classes that are named."""


@verb(
    TargetSettings,
    shapes=Parameter(name="--shapes", consume_multiple=True, metavar="CLASS=FILE"),
    shape_voxel_size=Parameter(converter=converter(to_voxel_size), n_tokens=1, accepts_keys=False, metavar="Å"),
    add=Parameter(consume_multiple=True, metavar="FILE=LABEL"),
    mask=Parameter(metavar="VOLUME"),
    ignore_shell=Parameter(metavar="Å"),
    annotated=Parameter(consume_multiple=True, metavar="CLASS"),
)
def target(
    particles: str,
    /,
    *,
    tomogram: Annotated[str, Parameter(name=("--tomogram", "-t"), metavar="TOMO.zarr")],
    output: Output,
    settings: TargetSettings,
    picture: bool = True,
) -> Outcome:
    r"""Draw the label map that a network is trained on, from the positions of particles.

    Parameters
    ----------
    particles
        Table of particles (.parquet), or their file in any format that `deepfinder import` reads.
    tomogram
        The tomogram that they are in, as `deepfinder convert` wrote it.
    output
        Store of the label map, TARGET.zarr: 0 is background, 255 is ignored.
    picture
        Draw slices of the tomogram and the target beside the store, TARGET.png.

    Examples
    --------
    # spheres of the radii in classes.toml, over membranes that are given as voxels
    deepfinder target picks.parquet --tomogram TS_01.zarr --classes classes.toml --add membranes.mrc=3 \
        -o TS_01_target.zarr
    # shapes turned by the particles' angles; voxels outside the mask are not annotated
    deepfinder target picks.star --tomogram TS_01.zarr --classes classes.toml --shapes ribosome=map.mrc@0.3 \
        --mask annotated.mrc -o TS_01_target.zarr
    """
    from deepfinder_dask.targets import target

    made = target(particles, tomogram, output, settings)
    drawn = f", {_draw(made, tomogram)}" if picture and "://" not in output else ""
    facts = {"target": output, "particles": dict(made.particles), "voxels": dict(made.voxels)}
    return Outcome(f"drew {_counted(made)} → {output}{drawn}{_overlaps(made)}", facts)


def _counted(made: Target) -> str:
    """Particles by class, and what else has voxels."""
    numbers = [f"{count} {name}" for name, count in made.particles.items() if count]
    others = [name for name, count in made.particles.items() if not count and made.voxels.get(name)]
    words = f"{sum(made.particles.values())} particles" + (f" ({', '.join(numbers)})" if numbers else "")
    return words + (f" and {', '.join(others)}" if others else "")


def _overlaps(made: Target) -> str:
    """How many voxels were claimed twice."""
    if not made.overlaps:
        return ""
    most = sorted(made.overlaps, key=lambda one: -one.voxels)
    named = ", ".join(f"{one.kept} over {one.lost} {one.voxels}" for one in most[:NAMED])
    more = f" and {len(most) - NAMED} more pairs" if len(most) > NAMED else ""
    return f"; {sum(one.voxels for one in most)} voxels claimed twice ({named}{more})"


def _draw(made: Target, tomogram: str) -> str:
    """Slices of the tomogram with the target over it, where most of that is; the picture's name."""
    from deepfinder_dask.blocks import triple
    from deepfinder_dask.tomograms import Tomogram, open_image
    from deepfinder_dask.viewing import orthoslices
    from deepfinder_dask.viewing.drawing import save_png

    labels = open_image(made.path)
    small = labels.levels[-1].read()
    drawn = (small > 0) & (small < 255)
    most = (int(drawn.sum(axis=tuple(a for a in range(3) if a != axis)).argmax()) for axis in range(3))
    at = triple((i + 0.5) * n / m for i, n, m in zip(most, made.label_map.space, small.shape, strict=True))
    figure = orthoslices(Tomogram.open(tomogram), labels, classes=made.classes, at=at)
    return str(save_png(figure, Path(made.path).with_suffix(".png")).name)
