"""Find macromolecules in cryo-electron tomograms of any size.

Everything here is loaded when it is first used: importing the package takes no PyTorch and no Dask.
"""

__version__ = "0.1.0"
