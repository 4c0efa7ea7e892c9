"""One picture file -> one array, safely: the file is checked before its pixels are unpacked."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lightcnn.decoding.folders import list_files
from lightcnn.errors import DataError

__all__ = [
    "PICTURE_SUFFIXES",
    "Picture",
    "decode_picture",
    "find_pictures",
    "fit_picture",
    "fitted_picture",
    "ignore_picture_warnings",
    "is_grey",
    "list_pictures",
    "open_picture",
]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".webp")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "WEBP")  # PPM reads PGM too
MAX_PIXELS = 100_000_000  # 300 MB as RGB; a picture that claims more is refused before it is unpacked


@dataclass(frozen=True)
class Picture:
    """What a file held and what was done to it.

    Attributes:
        pixels: `(height, width, channels)` uint8.
        original_size: `(width, height)` of the picture in the file, upright.
        grey: Whether the file's own pixels are shades of grey.
    """

    pixels: NDArray[np.uint8]
    original_size: tuple[int, int]
    grey: bool

    @property
    def changes(self) -> str:
        """What was converted, for people: `"640x480 colour -> 28x28 grey"`, or an empty string."""
        height, width, channels = self.pixels.shape
        before, after = "grey" if self.grey else "colour", "grey" if channels == 1 else "colour"
        if self.original_size == (width, height) and before == after:
            return ""
        return f"{self.original_size[0]}x{self.original_size[1]} {before} -> {width}x{height} {after}"


_filters, _filters_lock = ExitStack(), threading.Lock()
_readers: list[None] = []  # one for each that is at work


@contextmanager
def ignore_picture_warnings() -> Iterator[None]:
    """Hides Pillow's warnings of large pictures and odd EXIF data while many pictures are read.

    For the whole of the work, around its threads: Python's warning filters belong to the process. Of several threads
    that read pictures, the first sets them and the last puts them back.
    """
    with _filters_lock:
        if not _readers:
            _filters.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module="PIL")
        _readers.append(None)
    try:
        yield
    finally:
        with _filters_lock:
            _readers.pop()
            if not _readers:
                _filters.close()


def open_picture(path: Path) -> Image.Image:
    """Opens a picture file and decodes its first frame, upright.

    Args:
        path: A PNG, JPEG, BMP, GIF, PGM, PPM or WebP file. Its content decides, not its name.

    Returns:
        A Pillow image of mode `L` or `RGB`. Transparent pixels are shown on black.

    Raises:
        DataError: If the file is missing, empty, truncated, no picture, or unpacks to over 100 million pixels. The
            message is the cause alone; the caller knows the file.
    """
    try:
        if not path.stat().st_size:
            raise DataError("the file is empty")
        with Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise DataError(f"{width} x {height} pixels are more than the {MAX_PIXELS:,} that are unpacked")
            image.load()
            return _to_grey_or_colour(_upright(image))
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"the picture is too large to unpack: {error}") from error
    except UnidentifiedImageError as error:
        raise DataError("not a PNG, JPEG, BMP, GIF, PGM, PPM or WebP picture") from error
    except FileNotFoundError as error:
        raise DataError("no such file") from error
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise DataError(f"damaged or unreadable: {error}") from error


_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _upright(image: Image.Image) -> Image.Image:
    """Turns a picture as its EXIF data say.

    `ImageOps.exif_transpose` writes the EXIF block anew and fails on blocks that are a little odd, which many are.
    """
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # an unreadable EXIF block is no reason to lose the picture
        turn = None
    return image if turn is None else image.transpose(turn)


def _to_grey_or_colour(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise DataError("a picture of floating-point numbers, whose range is not known")
    if image.mode.startswith("I;16") or image.mode == "I":
        # 16-bit grey: Pillow's own conversions clip at 255, so scale by the range of the format.
        wide = np.asarray(image, np.float64)
        if "transparency" in image.info:
            wide = np.where(wide == image.info["transparency"], 0, wide)
        return Image.fromarray(np.clip(wide / 257 + 0.5, 0, 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "black"), rgba).convert("RGB")
    if image.mode in ("1", "L"):
        return image.convert("L")
    return image.convert("RGB")


def is_grey(image: Image.Image) -> bool:
    """Tells whether a picture has no colour: mode `L`, or three equal channels."""
    if image.mode == "L":
        return True
    pixels = np.asarray(image)
    return bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all())


def decode_picture(path: Path, size: tuple[int, int], channels: int) -> Picture:
    """Decodes a picture to the size and the number of channels that a model takes.

    The aspect ratio is kept: the picture is fitted into the frame (bilinear, antialiased) and centred on black.

    Args:
        path: A picture file.
        size: `(height, width)` in pixels.
        channels: 1 (grey, ITU-R 601 luma) or 3 (RGB).

    Returns:
        A `Picture`.

    Raises:
        DataError: As `open_picture`; or if `channels` is neither 1 nor 3.

    Example:
    >>> decode_picture(Path("photo.jpg"), (28, 28), 1).pixels.shape
    (28, 28, 1)
    """
    if channels not in (1, 3):
        raise DataError(f"pictures have 1 channel (grey) or 3 (colour). Received: channels={channels}")
    return fitted_picture(open_picture(path), size, channels)


def fitted_picture(image: Image.Image, size: tuple[int, int], channels: int) -> Picture:
    """Returns what `decode_picture` does, of a picture that is open."""
    grey, original_size = is_grey(image), image.size
    image = fit_picture(image.convert("L" if channels == 1 else "RGB"), width=size[1], height=size[0])
    pixels: NDArray[Any] = np.asarray(image, np.uint8)
    return Picture(pixels.reshape(*size, channels), original_size, grey)


def fit_picture(image: Image.Image, width: int, height: int) -> Image.Image:
    """Fits a picture into a frame; `ImageOps.pad` makes a very thin picture vanish."""
    if image.size == (width, height):
        return image
    scale = min(width / image.width, height / image.height)
    inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    frame = Image.new(image.mode, (width, height))
    corner = (width - inner[0]) // 2, (height - inner[1]) // 2
    frame.paste(image.resize(inner, Image.Resampling.BILINEAR), corner)
    return frame


def find_pictures(paths: Iterable[Path]) -> list[Path]:
    """Lists picture files: a file stands for itself, a folder for the pictures in and below it, sorted.

    Args:
        paths: Files and folders.

    Returns:
        Files in the order given, repeats kept; whether a named file exists is told when it is read. Hidden files and
        folders are passed over inside folders.

    Raises:
        DataError: If a folder holds no picture.
    """
    found: list[Path] = []
    for path in paths:
        # a missing or damaged file is named when it is read
        found += list_pictures(path)[0] if path.is_dir() else [path]
    return found


def list_pictures(folder: Path) -> tuple[list[Path], list[Path]]:
    """Lists the files in and below a folder, sorted: those with the name of a picture, and the others.

    Hidden files and folders are passed over.

    Raises:
        DataError: If the folder holds no picture.
    """
    return list_files(folder, PICTURE_SUFFIXES, "picture")
