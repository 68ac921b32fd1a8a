"""Geometry of blocks: which voxels a block reads and which it writes.

In: the shape of a volume, the core of a block, the halo that an algorithm needs. Out: a :class:`BlockGrid` of
:class:`Block`, each with the :class:`Box` it reads and the one it writes. Nothing here touches data.
"""

from deepfinder_dask.blocks.box import Box, Shape3, triple
from deepfinder_dask.blocks.grid import BLOCK_MULTIPLE, Block, BlockGrid, asked_block

__all__ = ["BLOCK_MULTIPLE", "Block", "BlockGrid", "Box", "Shape3", "asked_block", "triple"]
