"""``deepfinder segment`` and ``deepfinder verify``."""

from __future__ import annotations

import json
from typing import Annotated

from cyclopts import Parameter

from deepfinder_dask.cli.options import Json, Output, Weights, verb
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
    json_: Json = False,
) -> str:
    """Give each voxel of a tomogram a class and a probability.

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
    json_
        Print the plan as one JSON object.
    """
    if plan:
        from deepfinder_dask.segmentation import forecast

        expected = forecast(tomogram, weights, settings)
        return f"{json.dumps(expected.to_dict()) if json_ else expected}\n"
    if json_:
        raise SettingsError("--json belongs to --plan: add it, or leave --json out")
    if output is None:
        raise SettingsError("expected an output, a store to make: give -o SEG.zarr, or --plan to compute nothing")
    from deepfinder_dask.segmentation import segment

    segment(tomogram, weights, output, settings)
    return f"segmented {tomogram} → {output}"


@verb()
def verify(segmentation: str, /, *, workers: Annotated[int | None, Parameter(alias="-j", metavar="N")] = None) -> str:
    """Read a segmentation back and compare every block with the checksum recorded when it was computed.

    Parameters
    ----------
    segmentation
        Store of a finished segmentation, SEG.zarr.
    workers
        Local worker processes; by default this process does the work.
    """
    from deepfinder_dask.segmentation import verify

    blocks = verify(segmentation, workers=workers)
    return f"{segmentation} is whole: {blocks} block{'' if blocks == 1 else 's'}"
