"""``verify``: whether a segmentation still holds what its workers wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deepfinder_dask.blocks import Block, BlockGrid, triple
from deepfinder_dask.errors import FormatError, PartialFailure
from deepfinder_dask.execution import Progress, open_executor
from deepfinder_dask.segmentation.block import Classified
from deepfinder_dask.segmentation.store import Outputs, Segmentation, ledger_of, outputs_of
from deepfinder_dask.tomograms.location import normalise

NAMED = 5
"""Most damaged blocks that an error names."""


@dataclass(frozen=True)
class _Check:
    """Reads a block back and compares its checksum."""

    outputs: Outputs
    checksums: dict[int, str]

    def __call__(self, block: Block) -> str | None:
        """What is wrong with the block; None where nothing is."""
        if block.number not in self.checksums:
            return "was never recorded"
        scores = self.outputs.scores
        try:
            found = Classified(
                self.outputs.labels.read(block.write),
                self.outputs.probability.read(block.write),
                None if scores is None else scores.read(block.write),
            )
        except FormatError as error:
            return str(error)
        return None if found.checksum() == self.checksums[block.number] else "differs from what was written"


def verify(segmentation: Segmentation | str | Path, *, workers: int | None = None, progress: bool | None = None) -> int:
    """Read a finished segmentation back and compare every block with the checksum recorded when it was computed.

    Parameters
    ----------
    segmentation : Segmentation, str or path
        What :func:`~deepfinder_dask.segment` left.
    workers : int, optional
        Local worker processes; by default this process does the work.
    progress : bool, optional
        Show a progress bar; by default on a terminal.

    Returns
    -------
    int
        Number of blocks, all of them whole.

    Raises
    ------
    FormatError
        If there is no finished segmentation, or it has no checksums: those that were resampled from another voxel
        size, and those of version 0.1, have none.
    PartialFailure
        If blocks are damaged; they are named.
    """
    if not isinstance(segmentation, Segmentation):
        segmentation = Segmentation.open(normalise(segmentation))
    ledger = ledger_of(segmentation.path)
    plan = ledger.plan()
    if plan is None or plan["identity"]["settings"]["rescaled"]:
        raise FormatError(
            f"{segmentation.path} has no checksums of its blocks: resampled segmentations and those of older versions "
            "cannot be verified"
        )
    grid = BlockGrid(triple(plan["blocks"]["shape"]), triple(plan["blocks"]["core"]))
    checksums = {number: str(facts["checksum"]) for number, facts in ledger.recorded().items()}
    outputs = outputs_of(segmentation.path, scores=segmentation.score_map is not None)
    wrong: dict[int, str] = {}
    blocks = list(grid)
    with (
        open_executor(workers) as executor,
        Progress(f"verify {segmentation.tomogram}", len(grid), enabled=progress) as bar,
    ):
        for index, complaint in executor.run(_Check(outputs, checksums), blocks, label="verify"):
            bar.advance()
            if complaint:
                wrong[index] = complaint
    if wrong:
        named = "; ".join(f"{_named(grid[n])} {wrong[n]}" for n in sorted(wrong)[:NAMED])
        more = f"; and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise PartialFailure(
            f"{segmentation.path}: {len(wrong)} of {len(grid)} blocks are damaged: {named}{more}: segment again with "
            "--overwrite"
        )
    return len(grid)


def _named(block: Block) -> str:
    return f"block {block.number} (voxels {block.write.start} to {block.write.stop})"
