"""Picture files of every kind and every damage become the right pixels or a DataError."""

import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lightcnn.decoding import (
    PICTURE_SUFFIXES,
    decode_picture,
    find_pictures,
    ignore_picture_warnings,
    list_files,
    open_picture,
)
from lightcnn.errors import DataError

GREY = np.array([[0, 40, 80, 120], [160, 200, 240, 255], [10, 20, 30, 50]], np.uint8)
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)


def save(folder: Path, pixels, name="a.png", mode=None, **options) -> Path:
    path = folder / name
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def decode(path: Path, channels=3, size=None):
    with Image.open(path) as image:
        width, height = image.size
    return decode_picture(path, size or (height, width), channels)


# ------------------------------------------------------------------------------------------------------ file formats


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.png", {}), ("a.bmp", {}), ("a.gif", {}), ("a.pgm", {}), ("a.webp", {"lossless": True})],
)
def test_grey_pixels_pass_through_unchanged(tmp_path, name, options):
    picture = decode(save(tmp_path, GREY, name, **options), channels=1)
    np.testing.assert_array_equal(picture.pixels, GREY[..., None])
    assert picture.pixels.dtype == np.uint8
    assert picture.grey
    assert picture.changes == ""


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.png", {}), ("a.bmp", {}), ("a.gif", {}), ("a.ppm", {}), ("a.webp", {"lossless": True})],
)
def test_colour_pixels_pass_through_unchanged(tmp_path, name, options):
    picture = decode(save(tmp_path, COLOUR, name, **options))
    np.testing.assert_array_equal(picture.pixels, COLOUR)
    assert not picture.grey
    assert picture.changes == ""
    assert picture.original_size == (4, 3)


@pytest.mark.parametrize(("name", "options"), [("a.jpg", {"quality": 95}), ("a.webp", {"quality": 95})])
def test_lossy_files_come_close(tmp_path, name, options):
    smooth = np.linspace(0, 255, 32 * 32).reshape(32, 32).astype(np.uint8)
    colour = np.stack([smooth, smooth.T, np.full_like(smooth, 90)], axis=-1)
    picture = decode(save(tmp_path, colour, name, **options))
    assert np.abs(picture.pixels.astype(int) - colour).max() < 16
    assert not picture.grey


def test_a_grey_jpeg_is_grey(tmp_path):
    picture = decode(save(tmp_path, np.full((8, 8), 77, np.uint8), "a.jpg"), channels=1)
    assert picture.grey
    assert (picture.pixels == 77).all()


def test_the_content_decides_and_not_the_name(tmp_path):
    path = save(tmp_path, COLOUR, "a.bmp")
    np.testing.assert_array_equal(decode(path.rename(tmp_path / "a.jpg")).pixels, COLOUR)


def test_the_first_frame_of_an_animation_counts(tmp_path):
    frames = [Image.fromarray(np.full((4, 4), shade, np.uint8)) for shade in (200, 10)]
    for name in ("a.gif", "a.webp", "a.png"):
        options = {"lossless": True} if name == "a.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        assert (decode(tmp_path / name, channels=1).pixels == 200).all()


# ------------------------------------------------------------------------------------------------------------- modes


def test_black_and_white(tmp_path):
    picture = decode(save(tmp_path, GREY > 100, mode="1"), channels=1)
    np.testing.assert_array_equal(picture.pixels[..., 0], np.where(GREY > 100, 255, 0))
    assert picture.grey


def test_grey_becomes_three_equal_channels(tmp_path):
    picture = decode(save(tmp_path, GREY))
    assert all((picture.pixels[..., channel] == GREY).all() for channel in range(3))
    assert picture.grey
    assert picture.changes == "4x3 grey -> 4x3 colour"


def test_colour_becomes_luma(tmp_path):
    primaries = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    picture = decode(save(tmp_path, primaries), channels=1)
    assert picture.pixels.ravel().tolist() == [76, 150, 29, 255]  # ITU-R 601
    assert picture.changes == "4x1 colour -> 4x1 grey"


def test_a_colour_file_of_grey_pixels_is_grey(tmp_path):
    picture = decode(save(tmp_path, np.stack([GREY] * 3, axis=-1)), channels=1)
    np.testing.assert_array_equal(picture.pixels[..., 0], GREY)
    assert picture.grey
    assert picture.changes == ""


def test_one_coloured_pixel_makes_a_picture_colour(tmp_path):
    for channel in range(3):
        pixels = np.full((5, 5, 3), 100, np.uint8)
        pixels[4, 4, channel] = 101
        assert not decode(save(tmp_path, pixels)).grey


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_shown_on_black(tmp_path, mode):
    image = Image.fromarray(np.full((1, 3, 3), 200, np.uint8)).convert(mode)
    image.putalpha(Image.fromarray(np.array([[0, 128, 255]], np.uint8)))
    image.save(tmp_path / "a.png")
    picture = decode(tmp_path / "a.png")
    assert picture.pixels[0, :, 0].tolist() == [0, 100, 200]
    assert picture.grey


def test_a_transparent_palette_colour_is_black(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "a.png", transparency=1)
    assert decode(tmp_path / "a.png").pixels.tolist() == [[[255, 0, 0], [0, 0, 0], [0, 0, 255]]]
    image.save(tmp_path / "b.png")
    assert decode(tmp_path / "b.png").pixels.tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]


def test_a_transparent_shade_of_a_grey_png_is_black(tmp_path):
    path = save(tmp_path, np.array([[10, 200, 90]], np.uint8), transparency=200)
    assert decode(path, channels=1).pixels.ravel().tolist() == [10, 0, 90]


def test_cmyk(tmp_path):
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    image.save(tmp_path / "a.jpg", quality=100)
    picture = decode(tmp_path / "a.jpg")
    assert np.abs(picture.pixels.astype(int) - [255, 0, 0]).max() < 5


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    shades = np.array([[0, 255, 256, 32_768, 65_000, 65_535]], np.uint16)
    picture = decode(save(tmp_path, shades), channels=1)
    assert picture.pixels.ravel().tolist() == [0, 1, 1, 128, 253, 255]
    assert picture.grey


def test_a_transparent_shade_of_sixteen_bits_is_black(tmp_path):
    shades = np.array([[0, 255, 256, 32_768, 65_535]], np.uint16)
    for clear, expected in ((65_535, [0, 1, 1, 128, 0]), (0, [0, 1, 1, 128, 255]), (255, [0, 0, 1, 128, 255])):
        assert decode(save(tmp_path, shades, transparency=clear), channels=1).pixels.ravel().tolist() == expected


def test_folders_are_searched_through_links_and_not_in_circles(tmp_path):
    elsewhere = tmp_path / "elsewhere" / "ann"
    elsewhere.mkdir(parents=True)
    (tmp_path / "faces" / "bob").mkdir(parents=True)
    for folder in (elsewhere, tmp_path / "faces" / "bob"):
        Image.new("L", (3, 3)).save(folder / "1.png")
    (tmp_path / "faces" / "ann").symlink_to(elsewhere)
    (tmp_path / "faces" / "twin").symlink_to(elsewhere)
    (tmp_path / "faces" / "bob" / "up").symlink_to(tmp_path / "faces")
    (elsewhere / "back").symlink_to(tmp_path / "faces" / "bob")
    (tmp_path / "faces" / ".hidden").symlink_to(elsewhere)
    found, others = list_files(tmp_path / "faces", [".png"], "pictures")
    names = [str(path.relative_to(tmp_path / "faces")) for path in found]
    assert names == ["ann/1.png", "ann/back/1.png", "bob/1.png", "twin/1.png", "twin/back/1.png"]
    assert others == []


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere could not be read: No such file"):
        list_files(tmp_path / "nowhere", [".png"], "pictures")


def test_a_sixteen_bit_pgm_is_scaled(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 65535\n" + struct.pack(">3H", 0, 32_768, 65_535))
    assert decode(tmp_path / "a.pgm", channels=1).pixels.ravel().tolist() == [0, 128, 255]


def test_a_pgm_of_few_shades_is_scaled(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 4 1 3\n\x00\x01\x02\x03")
    assert decode(tmp_path / "a.pgm", channels=1).pixels.ravel().tolist() == [0, 85, 170, 255]


def test_floating_point_numbers_are_no_shades(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"Pf\n2 1\n-1.0\n" + struct.pack("<2f", 0, 1))
    with pytest.raises(DataError, match="floating-point"):
        decode_picture(tmp_path / "a.pgm", (1, 2), 1)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16"])
def test_the_size_is_told_as_it_is_in_the_file(tmp_path, mode):
    pixels = GREY.astype(np.uint16) if mode == "I;16" else COLOUR
    image = Image.fromarray(pixels) if mode == "I;16" else Image.fromarray(pixels).convert(mode)
    image.save(tmp_path / "a", "JPEG" if mode == "CMYK" else "PNG")
    with Image.open(tmp_path / "a") as again:
        assert again.mode == mode
    assert decode(tmp_path / "a").original_size == (4, 3)


# -------------------------------------------------------------------------------------------------------------- EXIF

SIDEWAYS = np.array([[1, 2, 3], [4, 5, 6]], np.uint8) * 40
# What each orientation of the standard means for the two rows above, in 40ths.
UPRIGHT = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}


def exif_block(*entries) -> bytes:
    """A block of little-endian EXIF; an entry is (tag, type, count, four bytes of value)."""
    body = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + bytes(4)


def orientation_entry(value: int):
    return (0x0112, 3, 1, struct.pack("<HH", value, 0))


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_pictures_are_turned_upright(tmp_path, orientation, suffix):
    path = save(tmp_path, SIDEWAYS, f"a.{suffix}", exif=exif_block(orientation_entry(orientation)), lossless=True)
    expected = np.array(UPRIGHT[orientation]) * 40
    picture = decode_picture(path, expected.shape, 1)
    np.testing.assert_array_equal(picture.pixels[..., 0], expected)
    assert picture.changes == ""


def test_a_turned_jpeg_keeps_its_aspect_ratio(tmp_path):
    pixels = np.zeros((8, 24), np.uint8)
    pixels[:, :8] = 255  # left
    path = save(tmp_path, pixels, "a.jpg", exif=exif_block(orientation_entry(6)), quality=100)
    upright = decode_picture(path, (24, 8), 1).pixels[..., 0]
    assert (upright[:7] > 230).all()
    assert (upright[9:] < 25).all()


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_changes_nothing(tmp_path, orientation):
    path = save(tmp_path, SIDEWAYS, exif=exif_block(orientation_entry(orientation)))
    np.testing.assert_array_equal(decode(path, channels=1).pixels[..., 0], SIDEWAYS)


@pytest.mark.parametrize(
    "entry",
    [
        (0x011A, 2, 4, b"abc\0"),  # XResolution as text
        (0x0103, 2, 4, b"abc\0"),  # Compression as text
        (0x010F, 3, 1, b"\x01\0\0\0"),  # Make as a number
        (0x010F, 5, 1, b"\x08\0\0\0"),  # Make as a fraction
        (0x9999, 99, 1, b"\x01\0\0\0"),  # an unknown type
        (0x010F, 2, 4000, b"\xff\xff\0\0"),  # Make beyond the end of the file
    ],
    ids=["resolution", "compression", "make number", "make fraction", "unknown", "beyond the end"],
)
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_wrong_exif_beside_right_pixels_does_no_harm(tmp_path, suffix, entry):
    pixels = np.full((8, 16), 90, np.uint8)
    path = save(tmp_path, pixels, f"a.{suffix}", exif=exif_block(orientation_entry(6), entry))
    with ignore_picture_warnings():
        picture = decode_picture(path, (16, 8), 1)
    assert np.abs(picture.pixels.astype(int) - 90).max() < 3
    assert picture.changes == ""  # 16 x 8 turned upright is 8 x 16


# ------------------------------------------------------------------------------------------------------------ fitting


def test_a_wide_picture_is_centred_between_black_bars(tmp_path):
    picture = decode_picture(save(tmp_path, np.full((10, 20), 200, np.uint8)), (40, 40), 1)
    assert (picture.pixels[:10] == 0).all()
    assert (picture.pixels[10:30] == 200).all()
    assert (picture.pixels[30:] == 0).all()
    assert picture.changes == "20x10 grey -> 40x40 grey"


def test_a_tall_picture_is_centred_between_black_bars(tmp_path):
    picture = decode_picture(save(tmp_path, np.full((90, 30, 3), (10, 200, 30), np.uint8)), (30, 30), 3)
    assert (picture.pixels[:, :10] == 0).all()
    assert (picture.pixels[:, 10:20] == (10, 200, 30)).all()
    assert (picture.pixels[:, 20:] == 0).all()
    assert picture.changes == "30x90 colour -> 30x30 colour"


def test_shrinking_averages(tmp_path):
    checkers = np.indices((64, 64)).sum(axis=0) % 2 * 255
    shrunk = decode_picture(save(tmp_path, checkers.astype(np.uint8)), (8, 8), 1).pixels
    assert np.abs(shrunk.astype(int) - 127).max() < 6  # without antialiasing it would be all black or all white


def test_the_frame_may_be_no_square(tmp_path):
    picture = decode_picture(save(tmp_path, np.full((10, 10), 50, np.uint8)), (20, 60), 1)
    assert picture.pixels.shape == (20, 60, 1)
    assert (picture.pixels[:, 20:40] == 50).all()
    assert (picture.pixels[:, :20] == 0).all()
    assert (picture.pixels[:, 40:] == 0).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 2000), (2000, 1), (3, 1999)])
def test_the_thinnest_pictures_fit(tmp_path, shape):
    picture = decode_picture(save(tmp_path, np.full(shape, 255, np.uint8)), (28, 28), 1)
    assert picture.pixels.shape == (28, 28, 1)
    assert picture.pixels.any()


def test_conversions_are_told_together(tmp_path):
    path = save(tmp_path, np.full((480, 640, 3), (1, 2, 3), np.uint8))
    assert decode_picture(path, (28, 28), 1).changes == "640x480 colour -> 28x28 grey"


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_other_numbers_of_channels_are_refused(tmp_path, channels):
    with pytest.raises(DataError, match=f"Received: channels={channels}"):
        decode_picture(save(tmp_path, GREY), (3, 4), channels)


# ------------------------------------------------------------------------------------------------------------- damage


def encoded(name: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 30, 3)).astype(np.uint8)
    options = {} if name in ("GIF", "BMP", "PPM") else {"exif": exif_block(orientation_entry(6))}
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, name, **options)
    return buffer.getvalue()


FORMATS = {name: encoded(name) for name in ("PNG", "JPEG", "BMP", "GIF", "PPM", "WEBP")}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("share", [0.001, 0.05, 0.5, 0.9])
def test_a_truncated_file_is_refused(tmp_path, name, share):
    path = tmp_path / "a.png"
    path.write_bytes(FORMATS[name][: max(1, int(len(FORMATS[name]) * share))])
    with pytest.raises(DataError, match=r"damaged or unreadable|not a PNG, JPEG"):
        decode_picture(path, (8, 8), 3)


@pytest.mark.parametrize(
    "content",
    [
        b"just text\n",
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        b"%PDF-1.4\n",
        b"PK\x03\x04" + bytes(60),
        bytes(100),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    ],
    ids=["text", "svg", "pdf", "zip", "zeros", "postscript"],
)
def test_what_is_no_picture_is_refused(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match="not a PNG, JPEG, BMP, GIF, PGM, PPM or WebP picture"):
        open_picture(tmp_path / "a.png")


def test_other_picture_formats_are_refused(tmp_path):
    for name in ("TIFF", "ICO", "TGA"):
        Image.fromarray(COLOUR).resize((16, 16)).save(tmp_path / "a.png", name)
        with pytest.raises(DataError, match="not a PNG, JPEG"):
            open_picture(tmp_path / "a.png")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(DataError, match="the file is empty"):
        open_picture(tmp_path / "a.png")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        open_picture(tmp_path / "a.png")


def test_a_folder_is_no_picture(tmp_path):
    with pytest.raises(DataError, match="directory"):
        open_picture(tmp_path)


def test_a_name_that_cannot_exist_is_refused(tmp_path):
    for name in ("a" * 5000, "a\0b.png"):
        with pytest.raises(DataError):
            open_picture(tmp_path / name)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def claiming_png(width: int, height: int) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rows = png_chunk(b"IDAT", zlib.compress(bytes(100_000)))
    return b"\x89PNG\r\n\x1a\n" + header + rows + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_001, 13_000, 50_000])
def test_a_picture_that_claims_too_many_pixels_is_refused(tmp_path, side):
    (tmp_path / "a.png").write_bytes(claiming_png(side, side))
    with pytest.raises(DataError, match=r"pixels"):
        open_picture(tmp_path / "a.png")


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from lightcnn.decoding import decode_picture
from lightcnn.errors import DataError
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000,) * 2)
try:
    decode_picture(Path(sys.argv[1]), (28, 28), 3)
except DataError as error:
    print(error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("side", [12_000, 50_000])
def test_a_bomb_is_refused_in_little_memory(tmp_path, side):
    (tmp_path / "a.png").write_bytes(claiming_png(side, side))
    command = [sys.executable, "-c", LITTLE_MEMORY, str(tmp_path / "a.png")]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert child.returncode == 0, child.stderr
    assert "pixels" in child.stdout


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(FORMATS)), st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1))
def test_no_damage_gives_another_error(tmp_path, name, changes):
    content = bytearray(FORMATS[name])
    for position, value in changes:
        content[position % len(content)] = value
    (tmp_path / "a").write_bytes(content)
    try:
        picture = decode_picture(tmp_path / "a", (8, 8), 3)
    except DataError as error:
        assert str(error)
    else:
        assert picture.pixels.shape == (8, 8, 3)


def test_a_large_but_allowed_picture_brings_no_warning(tmp_path):
    Image.new("1", (9_900, 9_900)).save(tmp_path / "a.png")  # over Pillow's own limit of 89 million
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ignore_picture_warnings():
            assert decode_picture(tmp_path / "a.png", (8, 8), 1).pixels.shape == (8, 8, 1)


def test_the_filters_of_warnings_are_as_before_whichever_reader_ends_first():
    before = list(warnings.filters)
    first, second = ignore_picture_warnings(), ignore_picture_warnings()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert warnings.filters != before
    second.__exit__(None, None, None)
    assert warnings.filters == before


# ------------------------------------------------------------------------------------------------------ finding files


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found_in(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in find_pictures([folder])]


def test_a_folder_stands_for_the_pictures_below_it_sorted(tmp_path):
    touch(tmp_path, "b.png", "a.jpg", "sub/deep/c.webp", "sub/a.gif", "notes.txt", "README", "x.png.txt")
    assert found_in(tmp_path) == ["a.jpg", "b.png", "sub/a.gif", "sub/deep/c.webp"]


def test_every_suffix_counts_in_any_case(tmp_path):
    names = sorted(f"a{suffix}" for suffix in PICTURE_SUFFIXES)
    touch(tmp_path, *names, "B.PNG", "B.Jpg", "c.svg", "c.tif", "c.npz")
    assert found_in(tmp_path) == ["B.Jpg", "B.PNG", *names]


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    touch(tmp_path, "a.png", ".b.png", "._c.png", ".cache/d.png", "sub/.thumbs/e.png", "sub/f.png")
    assert found_in(tmp_path) == ["a.png", "sub/f.png"]


def test_a_folder_below_a_hidden_one_can_be_named(tmp_path):
    touch(tmp_path, ".hidden/a.png")
    assert found_in(tmp_path / ".hidden") == ["a.png"]


def test_a_folder_called_like_a_picture_is_no_picture(tmp_path):
    touch(tmp_path, "folder.png/inside.jpg")
    assert found_in(tmp_path) == ["folder.png/inside.jpg"]


def test_order_and_repeats_are_kept(tmp_path):
    touch(tmp_path, "b.png", "a.png", "sub/c.png")
    files = [tmp_path / "b.png", tmp_path / "a.png", tmp_path / "b.png"]
    assert find_pictures(files) == files
    assert find_pictures([files[0], tmp_path / "sub", files[0]]) == [files[0], tmp_path / "sub" / "c.png", files[0]]
    assert find_pictures([]) == []


def test_a_file_that_is_named_stands_for_itself(tmp_path):
    touch(tmp_path, "odd.name", ".hidden.png")
    files = [tmp_path / "odd.name", tmp_path / ".hidden.png", tmp_path / "missing.png"]
    assert find_pictures(files) == files  # a missing one is named when it is read


@pytest.mark.parametrize("names", [(), ("notes.txt",), (".hidden.png",)])
def test_a_folder_without_pictures_is_named(tmp_path, names):
    (tmp_path / "class").mkdir()
    touch(tmp_path / "class", *names)
    with pytest.raises(DataError, match=r"class holds no picture\. Expected files ending in \.png, \.jpg"):
        find_pictures([tmp_path / "class"])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_utf_8_are_found_and_read(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    save(tmp_path, GREY).rename(path)
    assert find_pictures([tmp_path]) == [path]
    np.testing.assert_array_equal(decode(path, channels=1).pixels[..., 0], GREY)
