"""``deepfinder segment`` and ``deepfinder verify``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from deepfinder_dask.cli.options import Outcome, Output, Weights, verb
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.segmentation.settings import SegmentSettings


@verb(SegmentSettings)
def segment(
    tomogram: str,
    /,
    *,
    weights: Weights,
    output: Output | None = None,
    settings: SegmentSettings,
    plan: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> Outcome:
    r"""Give each voxel of a tomogram a class and a probability.

    Finished blocks are recorded: interrupted or killed, the same command goes on with those that are missing.

    Parameters
    ----------
    tomogram
        A converted tomogram, or any Zarr volume of known voxel size.
    weights
        Weights file (.safetensors), or demo for those that come with the package.
    output
        Store of the segmentation, SEG.zarr.
    plan
        Compute nothing: print blocks, halo, memory, waste and the estimated time.

    Examples
    --------
    deepfinder segment TS_01.zarr -w weights.safetensors -o TS_01_labels.zarr --memory 8GiB --workers 4
    # blocks, memory and time; computes nothing
    deepfinder segment TS_01.zarr -w weights.safetensors --plan
    # on a Dask cluster; average over a turn by 180°; keep the probabilities of all classes
    deepfinder segment TS_01.zarr -w weights.safetensors -o TS_01_labels.zarr --scheduler tcp://host:8786 \
        --augment --scores
    """
    if plan:
        from deepfinder_dask.segmentation import forecast

        expected = forecast(tomogram, weights, settings)
        return Outcome(f"{expected}\n", expected.to_dict())
    if output is None:
        raise SettingsError("expected an output, a store to make: give -o SEG.zarr, or --plan to compute nothing")
    from deepfinder_dask.segmentation import segment

    made = segment(tomogram, weights, output, settings)
    facts = {
        "segmentation": output,
        "tomogram": made.tomogram,
        "shape": list(made.label_map.space),
        "voxel_size": list(made.voxel_size),
        "classes": {one.name: one.label for one in made.classes},
    }
    return Outcome(f"segmented {tomogram} → {output}", facts)


@verb()
def verify(
    segmentation: str, /, *, workers: Annotated[int | None, Parameter(alias="-j", metavar="N")] = None
) -> Outcome:
    """Check that a segmentation still holds what its workers wrote.

    Reads it back and compares every block with the checksum that was recorded when it was computed.

    Parameters
    ----------
    segmentation
        Store of a finished segmentation, SEG.zarr.
    workers
        Local worker processes; by default this process does the work.

    Examples
    --------
    deepfinder verify TS_01_labels.zarr --workers 4
    """
    from deepfinder_dask.segmentation import verify

    blocks = verify(segmentation, workers=workers)
    words = f"{segmentation} is whole: {blocks} block{'' if blocks == 1 else 's'}"
    return Outcome(words, {"segmentation": segmentation, "whole": True, "blocks": blocks})
