"""Augmentation against plain loops, and its promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from lightcnn.augmentation import augment_images, cut_and_mix

SHAPES = hnp.array_shapes(min_dims=4, max_dims=4, min_side=1, max_side=5)
BATCHES = hnp.arrays(np.int16, SHAPES, elements=st.integers(0, 250), unique=False)


class Scripted:
    """Stands in for a random generator and gives what a test says."""

    def __init__(self, integers=(), random=()):
        self._integers, self._random = list(integers), list(random)

    def integers(self, low, high, size):
        values = np.array(self._integers.pop(0)).reshape(size)
        assert (values >= low).all()
        assert (values < high).all()
        return values

    def random(self, size):
        return np.array(self._random.pop(0)).reshape(size)


def shifted(picture, down, right):
    """Content moves up and left by (down, right); beyond the edge the edge's pixel repeats."""
    height, width, _ = picture.shape
    result = np.empty_like(picture)
    for row in range(height):
        for column in range(width):
            source_row = min(max(row + down, 0), height - 1)
            source_column = min(max(column + right, 0), width - 1)
            result[row, column] = picture[source_row, source_column]
    return result


def is_cut_square(before, after, side, fill):
    """Whether `after` is `before` with one square of `side`, clipped at the edges, set to `fill`."""
    height, width, _ = before.shape
    for top in range(-side, height + 1):
        for left in range(-side, width + 1):
            expected = before.copy()
            for row in range(max(top, 0), min(top + side, height)):
                for column in range(max(left, 0), min(left + side, width)):
                    expected[row, column] = fill
            if np.array_equal(expected, after):
                return True
    return False


@given(BATCHES, st.integers(1, 7), st.data())
def test_a_shift_repeats_the_edge(batch, limit, data):
    moves = [
        [data.draw(st.integers(-limit, limit)) for _ in batch],  # rows
        [data.draw(st.integers(-limit, limit)) for _ in batch],  # columns
    ]
    result = augment_images(batch, Scripted(integers=[moves]), max_shift=limit)
    for index, picture in enumerate(batch):
        np.testing.assert_array_equal(result[index], shifted(picture, moves[0][index], moves[1][index]))


@given(BATCHES, st.integers(0, 2**32))
def test_a_random_shift_is_within_its_limit(batch, seed):
    result = augment_images(batch, np.random.default_rng(seed), max_shift=2)
    for before, after in zip(batch, result, strict=True):
        moves = [(down, right) for down in range(-2, 3) for right in range(-2, 3)]
        assert any(np.array_equal(shifted(before, *move), after) for move in moves)


@given(BATCHES, st.data())
def test_a_flip_mirrors_columns_of_half_the_pictures(batch, data):
    draws = [data.draw(st.sampled_from([0.0, 0.49, 0.5, 0.99])) for _ in batch]
    result = augment_images(batch, Scripted(random=[draws]), flip=True)
    for before, after, drawn in zip(batch, result, draws, strict=True):
        expected = [list(reversed(row)) if drawn < 0.5 else list(row) for row in before]
        np.testing.assert_array_equal(after, expected)


@given(BATCHES, st.integers(1, 6), st.integers(0, 2**32))
def test_cutout_sets_one_square_of_each_picture_to_its_mean(batch, side, seed):
    result = augment_images(batch, np.random.default_rng(seed), cutout=side)
    for before, after in zip(batch, result, strict=True):
        pixels = before.reshape(-1, before.shape[-1]).tolist()
        fill = [int(sum(column) / len(column)) for column in zip(*pixels, strict=True)]
        assert is_cut_square(before, after, side, fill)


@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32))
def test_cut_and_mix_puts_one_rectangle_of_another_picture_into_each(count, height, width, seed):
    batch = np.arange(count * height * width * 2).reshape(count, height, width, 2)  # no two pixels are equal
    before = batch.copy()
    mixed, targets = cut_and_mix(batch, np.eye(count, dtype=np.float32), np.random.default_rng(seed))
    np.testing.assert_array_equal(batch, before)
    assert (mixed.dtype, targets.dtype) == (batch.dtype, np.float32)
    for index, other in zip(range(count), reversed(range(count)), strict=True):
        changed = mixed[index] != batch[index]
        np.testing.assert_array_equal(mixed[index][changed], batch[other][changed])
        rows, columns = changed.any(axis=(1, 2)), changed.any(axis=(0, 2))
        np.testing.assert_array_equal(changed, np.repeat(np.outer(rows, columns)[..., None], 2, axis=2))
        assert all((np.diff(np.flatnonzero(edge)) == 1).all() for edge in (rows, columns))
        expected = np.zeros(count)
        expected[index] += 1 - changed.mean()
        expected[other] += changed.mean()
        np.testing.assert_allclose(targets[index], expected, atol=1e-6)


def test_the_areas_of_cut_and_mix_are_spread_evenly():
    batch, targets, generator = (
        np.zeros((2, 64, 64, 1), np.uint8),
        np.eye(2, dtype=np.float32),
        np.random.default_rng(0),
    )
    shares = [cut_and_mix(batch, targets, generator)[1][0, 1] for _ in range(2000)]
    assert 0.47 < np.mean(shares) < 0.51  # whole pixels are rounded down
    assert np.histogram(shares, 4, (0, 1))[0].min() > 400  # 500 expected


@pytest.mark.parametrize(
    ("side", "centre", "cut"),
    [
        (1, (1, 2), {(1, 2)}),
        (2, (1, 1), {(0, 0), (0, 1), (1, 0), (1, 1)}),
        (3, (2, 2), {(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (3, 3)}),
        (3, (0, 3), {(0, 2), (0, 3), (1, 2), (1, 3)}),
        (9, (0, 0), {(row, column) for row in range(4) for column in range(4)}),
    ],
)
def test_the_centre_of_a_cut_may_lie_anywhere(side, centre, cut):
    batch = np.zeros((1, 4, 4, 1), np.uint8)
    batch[0, 3, 0] = 160  # mean 10
    result = augment_images(batch, Scripted(integers=[[centre]]), cutout=side)[0, ..., 0]
    changed = {(row, column) for row in range(4) for column in range(4) if result[row, column] == 10}
    assert changed == cut


def test_every_pixel_can_be_the_centre_of_a_cut():
    batch = np.zeros((400, 3, 5, 1), np.uint8)
    batch[:, 0, 0] = 255  # mean 17
    cut = augment_images(batch, np.random.default_rng(0), cutout=1) == 17
    assert (cut.sum(axis=(1, 2, 3)) == 1).all()
    assert (cut.sum(axis=(0, 3)) >= 10).all()  # 400 / 15 = 27 expected


def test_shifts_and_flips_are_spread_evenly():
    batch = np.tile(np.arange(9, dtype=np.uint8)[None, None, :, None], (4000, 1, 1, 1))
    centre = augment_images(batch, np.random.default_rng(0), max_shift=2)[:, 0, 4, 0]
    assert set(centre.tolist()) == {2, 3, 4, 5, 6}
    assert np.bincount(centre)[2:].min() > 650  # 800 expected
    mirrored = augment_images(batch, np.random.default_rng(0), flip=True)[:, 0, 0, 0] == 8
    assert 0.45 < mirrored.mean() < 0.55


def test_each_picture_is_changed_by_itself():
    batch = np.tile(np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1), (32, 1, 1, 1))
    result = augment_images(batch, np.random.default_rng(0), max_shift=3, flip=True)
    assert len({picture.tobytes() for picture in result}) > 20


CHANGES = [{"max_shift": 2}, {"flip": True}, {"cutout": 3}, {"max_shift": 4, "flip": True, "cutout": 2}]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_the_same_state_gives_the_same_pictures_and_moves_on(changes):
    batch = np.random.default_rng(5).integers(0, 256, (16, 9, 7, 3)).astype(np.uint8)
    generator = np.random.default_rng(3)
    first, second = (augment_images(batch, generator, **changes) for _ in range(2))
    again = augment_images(batch, np.random.default_rng(3), **changes)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("changes", CHANGES, ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float16, np.float32, np.float64])
def test_shape_and_dtype_stay_and_the_input_is_unchanged(changes, dtype):
    batch = np.random.default_rng(5).integers(0, 256, (4, 6, 5, 2)).astype(dtype)
    before = batch.copy()
    batch.flags.writeable = False
    result = augment_images(batch, np.random.default_rng(0), **changes)
    assert (result.shape, result.dtype) == (batch.shape, dtype)
    assert not np.shares_memory(result, batch)
    np.testing.assert_array_equal(batch, before)


def test_nothing_asked_for_gives_the_same_object_and_draws_nothing():
    batch = np.zeros((2, 3, 3, 1), np.uint8)
    generator = np.random.default_rng(0)
    assert augment_images(batch, generator) is batch
    assert generator.integers(1 << 30) == np.random.default_rng(0).integers(1 << 30)


class _Chosen:
    """A random generator whose uniform numbers are chosen: the angle's first, then the zooms'."""

    def __init__(self, angle, zoom_rows, zoom_columns):
        self.answers = [angle, (zoom_rows, zoom_columns)]

    def uniform(self, low, high, size):
        return np.broadcast_to(np.reshape(self.answers.pop(0), (-1,) + (1,) * (len(size) - 1)), size)


@pytest.mark.parametrize(("angle", "rows", "columns"), [(0, 0, 0), (90, 0, 0), (17, 0, 0), (0, 1, -1), (-31, 0.5, 1)])
def test_turn_and_zoom_are_pillows(angle, rows, columns):
    side = 41
    pixels = np.zeros((1, side, side, 3), np.uint8)  # black around: Pillow shows black beyond the edge
    pixels[:, 14:27, 14:27] = np.random.default_rng(0).integers(0, 256, (1, 13, 13, 3))
    turned = augment_images(pixels, _Chosen(angle, rows, columns), max_rotation_degrees=90, max_zoom=0.3)

    sine, cosine = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
    down, right = 1.3**rows, 1.3**columns
    matrix = np.array([[right * cosine, right * sine], [-down * sine, down * cosine]])
    offset = side / 2 - matrix @ [side / 2, side / 2]
    coefficients = [*matrix[0], offset[0], *matrix[1], offset[1]]
    picture = Image.fromarray(pixels[0])
    expected = picture.transform(picture.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    assert np.abs(turned[0].astype(int) - np.asarray(expected)).max() <= 1  # both round


def test_turn_and_zoom_repeat_the_edge_and_keep_floats():
    pictures = np.full((5, 20, 17, 2), 0.25, np.float32)
    turned = augment_images(pictures, np.random.default_rng(0), max_rotation_degrees=45, max_zoom=0.5)
    assert turned.dtype == np.float32
    np.testing.assert_allclose(turned, 0.25, rtol=1e-6)


# a picture whose value says where it is: what is sampled at a place tells how far that place was moved
def _moves(count, height, width, **options):
    down, right = np.mgrid[:height, :width].astype(np.float32)
    places = np.broadcast_to(np.stack([down, right], axis=-1), (count, height, width, 2))
    return augment_images(places, np.random.default_rng(0), **options) - places


def test_elastic_distortion_moves_points_by_its_deviation():
    # far enough from the edge, behind which there is nothing to come from
    moves = _moves(400, 56, 42, elastic_distortion=0.8)[:, 8:-8, 8:-8]
    assert moves.std() == pytest.approx(0.8, rel=0.02)
    assert np.abs(moves.std(axis=0) / 0.8 - 1).max() < 0.2, "everywhere the same"
    assert abs(moves.mean()) < 0.08
    assert abs(np.corrcoef(moves[..., 0].ravel(), moves[..., 1].ravel())[0, 1]) < 0.1, "each way by itself"


def test_elastic_distortion_is_smooth_over_a_seventh_of_the_picture():
    moves = _moves(600, 70, 70, elastic_distortion=1.0)[:, 10:-10, 10:-10, 0]
    for distance, expected in ((5, 0.94), (10, 0.78), (20, 0.37), (40, 0.02)):  # exp(-distance**2 / (2 * 10)**2)
        for axis in (1, 2):
            ahead, behind = np.moveaxis(moves, axis, 0)[distance:], np.moveaxis(moves, axis, 0)[:-distance]
            assert (ahead * behind).mean() == pytest.approx(expected, abs=0.07)


def test_elastic_distortion_of_nothing_else_keeps_other_draws():
    pictures = np.random.default_rng(1).integers(0, 256, (4, 20, 20, 1), np.uint8)
    still = augment_images(pictures, np.random.default_rng(0), max_rotation_degrees=20, elastic_distortion=1e-6)
    turned = augment_images(pictures, np.random.default_rng(0), max_rotation_degrees=20)
    assert np.abs(still.astype(int) - turned).max() <= 1


def test_a_square_of_any_size_is_cut_out():
    pictures = np.random.default_rng(1).integers(0, 256, (4, 9, 12, 3), np.uint8)
    expected = np.broadcast_to(pictures.mean(axis=(1, 2), keepdims=True).astype(np.uint8), pictures.shape)
    for side in (24, 10_000):
        np.testing.assert_array_equal(augment_images(pictures, np.random.default_rng(0), cutout=side), expected)
