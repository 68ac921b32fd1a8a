"""``python -m deepfinder_dask``: the ``deepfinder`` command."""

import sys

from deepfinder_dask.cli import main

if __name__ == "__main__":
    sys.exit(main())
