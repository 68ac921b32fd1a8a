"""A snapshot of a tomogram for a page: a slice as an image, its labels as another, its particles as paths.

Layers stay apart so that a reader can take labels or particles off. A slab of a pyramid level is read, never a volume.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.particles import ParticleClass, Particles
from deepfinder_dask.tomograms import Image, Tomogram
from deepfinder_dask.viewing.greys import grey_range
from deepfinder_dask.viewing.marks import densest_index, marks_of
from deepfinder_dask.viewing.sampling import read_slice

if TYPE_CHECKING:
    from PIL.Image import Image as PictureImage

WIDTHS = (640, 448, 320, 224, 160, 112, 80)
"""Largest extents of a snapshot, in pixels."""
QUALITY = 70
"""Quality of the lossy image of grey values, 0 to 100."""
BYTES_PER_PIXEL = 0.32
"""Bytes that a noisy slice takes, layers together and in base64: what decides the first width that is tried."""
THICKNESS = 5
"""Voxels averaged across the slice: noise hides particles in one."""
RINGS = 400
"""Most particles that are drawn."""


@dataclass(frozen=True)
class Snapshot:
    """Layers of a picture; lengths in nm from the top left corner of the slice."""

    width: float
    """Extent along x, in nm."""
    height: float
    """Extent along y, in nm; y points upwards in the picture."""
    z: float
    """Where the slice is, in nm."""
    grey: str
    """Grey values as the base64 text of a WebP image."""
    labels: str | None
    """Labels as the base64 text of a PNG image, transparent where there are none."""
    rings: tuple[tuple[str, str], ...]
    """(colour, SVG path) of each class: circles where spheres of the class radius cut the slice."""

    @property
    def size(self) -> int:
        """Bytes on the page."""
        return len(self.grey) + len(self.labels or "") + sum(len(path) for _, path in self.rings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Snapshot:
        """The inverse of :meth:`to_dict`."""
        return cls(**{**values, "rings": tuple((str(colour), str(path)) for colour, path in values["rings"])})


def snapshot(
    tomogram: Tomogram,
    labels: Image | None,
    particles: Particles | None,
    classes: Sequence[ParticleClass],
    *,
    limit: int,
) -> Snapshot:
    """The slice across z that shows most particles, or the middle.

    Parameters
    ----------
    tomogram : Tomogram
        A slab of the pyramid level that suits is read.
    labels : Image, optional
        Its label map, of the same shape.
    particles : Particles, optional
        Its particles.
    classes : sequence of ParticleClass
        Colours of the labels, structures included.
    limit : int
        Bytes that the picture may take; the largest of ``WIDTHS`` that keeps to it is made, or the smallest.
    """
    marks = marks_of(tomogram, particles)
    nz, ny, nx = tomogram.shape
    dz, dy, dx = (v / 10 for v in tomogram.voxel_size)
    index = densest_index(marks.centres[:, 0], marks.radii / tomogram.voxel_size[0], nz) if len(marks) else nz // 2
    rings = _rings(marks.centres, marks.radii / 10, marks.colours, index, (dz, dy, dx), ny)
    drawn = sum(len(path) for _, path in rings)
    fitting = [w for w in WIDTHS if BYTES_PER_PIXEL * _pixels(w, nx * dx, ny * dy) + drawn <= limit]
    widths = WIDTHS[WIDTHS.index(fitting[0]) :] if fitting else WIDTHS[-1:]
    grey = read_slice(tomogram.levels, 0, index, thickness=THICKNESS, pixels=2 * widths[0]).values
    mask = read_slice(labels.levels, 0, index, mean=False, pixels=widths[0]).values if labels else None
    black, white = grey_range([grey])
    made = None
    for width in widths:
        made = Snapshot(
            width=round(nx * dx, 3),
            height=round(ny * dy, 3),
            z=round(index * dz, 2),
            grey=_grey_image(grey[::-1], black, white, width),
            labels=None if mask is None else _label_image(mask[::-1], classes, width),
            rings=rings,
        )
        if made.size <= limit:
            break
    if made is None:
        raise ValueError("there is no width")
    return made


def shrunk(picture: Snapshot, limit: int) -> Snapshot:
    """The same picture in at most so many bytes, or in the smallest of ``WIDTHS``."""
    grey, labels = _decoded(picture.grey), None if picture.labels is None else _decoded(picture.labels)
    drawn = sum(len(path) for _, path in picture.rings)
    fitting = [w for w in WIDTHS if BYTES_PER_PIXEL * _pixels(w, picture.width, picture.height) + drawn <= limit]
    made = picture
    for width in WIDTHS[WIDTHS.index(fitting[0]) :] if fitting else WIDTHS[-1:]:
        made = replace(
            picture,
            grey=_as_webp(grey.convert("L"), width),
            labels=None if labels is None else _as_png(labels, width, labels.info["transparency"]),
        )
        if made.size <= limit:
            break
    return made


def _pixels(width: int, x: float, y: float) -> float:
    """Pixels of a picture of this largest extent."""
    return width * width * min(x, y) / max(x, y)


def _grey_image(values: NDArray[Any], black: float, white: float, width: int) -> str:
    from PIL import Image as Picture

    grey = np.clip((values.astype(np.float32) - black) * (255 / (white - black)), 0, 255)
    return _as_webp(Picture.fromarray(np.nan_to_num(grey).astype(np.uint8)), width)


def _label_image(values: NDArray[Any], classes: Sequence[ParticleClass], width: int) -> str | None:
    from PIL import Image as Picture

    labels = np.clip(values.astype(np.int64), 0, 255).astype(np.uint8)
    if not labels.any():
        return None
    picture = Picture.fromarray(np.ascontiguousarray(labels))
    colours = np.full((256, 3), 154, np.uint8)
    for one in classes:
        colours[one.label] = one.rgb
    picture.putpalette(colours.tobytes())
    return _as_png(picture, width, bytes([0] + [255] * 255))


def _as_webp(picture: PictureImage, width: int) -> str:
    """Base64 text of grey values, averaged to at most this extent."""
    from PIL import Image as Picture

    small = picture.copy()
    small.thumbnail((width, width), Picture.Resampling.BOX)
    stream = io.BytesIO()
    small.save(stream, "WEBP", quality=QUALITY, method=4)
    return base64.b64encode(stream.getvalue()).decode()


def _as_png(picture: PictureImage, width: int, transparency: bytes) -> str:
    """Base64 text of labels, of which every so-manieth is taken: labels have no mean."""
    from PIL import Image as Picture

    small = picture.copy()
    small.thumbnail((width, width), Picture.Resampling.NEAREST)
    stream = io.BytesIO()
    small.save(stream, "PNG", optimize=True, transparency=transparency)
    return base64.b64encode(stream.getvalue()).decode()


def _decoded(text: str) -> PictureImage:
    from PIL import Image as Picture

    picture = Picture.open(io.BytesIO(base64.b64decode(text)))
    picture.load()
    return picture


def _rings(
    centres: NDArray[np.float64],
    radii: NDArray[np.float64],
    colours: NDArray[np.str_],
    index: int,
    nm: tuple[float, float, float],
    rows: int,
) -> tuple[tuple[str, str], ...]:
    """Circles in which spheres cut the slice, a path for each colour; the largest where there are too many."""
    squares = radii**2 - ((centres[:, 0] - index) * nm[0]) ** 2
    cut = np.flatnonzero(squares > 0)
    cut = np.sort(cut[np.argsort(-squares[cut], kind="stable")][:RINGS])
    x, y = (centres[cut, 2] + 0.5) * nm[2], (rows - 0.5 - centres[cut, 1]) * nm[1]
    paths: dict[str, list[str]] = {}
    for colour, at_x, at_y, r in zip(colours[cut], x, y, np.sqrt(squares[cut]), strict=True):
        arc = f"a{r:.1f} {r:.1f} 0 1 0"
        paths.setdefault(str(colour), []).append(f"M{at_x - r:.1f} {at_y:.1f}{arc} {2 * r:.1f} 0{arc} {-2 * r:.1f} 0")
    return tuple((colour, "".join(parts)) for colour, parts in paths.items())
