"""Alignment: where the landmarks land, which pixel comes from where, and that nothing is off by half of one."""

import cmath
import math

import numpy as np
import pytest
from conftest import real_file
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from lightcnn.alignment import align, similarity_transform
from lightcnn.errors import DataError

# In the frame of 144: the eyes level in row 48, the mouth 48 rows below, all about column 72.
IN_PLACE = np.array([[50.0, 48.0], [94.0, 48.0], [72.0, 70.0], [56.0, 96.0], [88.0, 96.0]])
NOISE = np.random.default_rng(0).integers(0, 256, (144, 144), np.uint8)

COORDINATES = st.floats(-500, 1500).map(lambda value: round(value, 3))
LANDMARKS = st.lists(st.tuples(COORDINATES, COORDINATES), min_size=5, max_size=5).map(np.array)


def middles(points):
    return points[:2].mean(axis=0), points[3:].mean(axis=0)


def height_over_the_mouth(points):
    """The distance of the mouth's middle from the line through the eyes: twice a triangle's area by its base."""
    _, mouth = middles(points)
    (ax, ay), (bx, by) = points[:2]
    area = abs((bx - ax) * (mouth[1] - ay) - (by - ay) * (mouth[0] - ax))
    return area / math.dist((ax, ay), (bx, by))


def usable(points):
    return math.dist(*points[:2]) > 5 and height_over_the_mouth(points) > 5


# -------------------------------------------------------------------------------------------------------- transform


def test_landmarks_that_are_in_place_stay():
    np.testing.assert_allclose(similarity_transform(IN_PLACE), [[1, 0, 0], [0, 1, 0]], atol=1e-12)


@given(LANDMARKS, st.integers(1, 300), st.floats(1, 200), st.floats(-50, 200))
def test_the_face_lands_where_the_authors_put_it(points, size, distance, row):
    assume(usable(points))
    matrix = similarity_transform(points, size=size, eye_mouth_distance=distance, eye_row=row)
    landed = np.column_stack([points, np.ones(5)]) @ matrix.T
    eyes, mouth = middles(landed)
    scale = distance / height_over_the_mouth(points)
    tolerance = 1e-9 * max(1, scale) * 1e4  # rounding of coordinates up to 1,500, magnified
    np.testing.assert_allclose(eyes, [size // 2, row], atol=tolerance)
    assert mouth[1] - row == pytest.approx(distance, abs=tolerance)
    assert landed[0, 1] == pytest.approx(landed[1, 1], abs=tolerance)  # the eyes are level
    # A similarity that mirrors nothing: all distances grow alike, and the turn has a positive determinant.
    assert np.linalg.det(matrix[:, :2]) == pytest.approx(scale**2, rel=1e-9)
    assert math.dist(landed[2], landed[3]) == pytest.approx(scale * math.dist(points[2], points[3]), abs=tolerance)


@given(LANDMARKS, st.floats(-3, 3), st.floats(0.3, 3), st.complex_numbers(max_magnitude=200))
def test_a_picture_turned_moved_or_made_larger_gives_the_same_face(points, angle, factor, shift):
    assume(usable(points))
    turned = [factor * cmath.exp(1j * angle) * complex(x, y) + shift for x, y in points]
    turned = np.array([[z.real, z.imag] for z in turned])
    assume(usable(turned))
    one, other = similarity_transform(points), similarity_transform(turned)
    ones = np.ones(5)
    np.testing.assert_allclose(
        np.column_stack([points, ones]) @ one.T, np.column_stack([turned, ones]) @ other.T, atol=1e-4
    )


@given(LANDMARKS)
def test_the_order_of_the_eyes_and_of_the_corners_does_not_matter(points):
    assume(usable(points))
    np.testing.assert_allclose(similarity_transform(points[[1, 0, 2, 4, 3]]), similarity_transform(points), atol=1e-9)


def test_the_sizes_of_the_authors_are_one_alignment():
    points = [[31.2, 47.9], [62.5, 52.3], [44.1, 70.0], [33.3, 88.8], [58.7, 91.4]]
    train = similarity_transform(points, size=144, eye_mouth_distance=48, eye_row=48)
    test = similarity_transform(points, size=128, eye_mouth_distance=48, eye_row=40)
    np.testing.assert_allclose(train - test, [[0, 0, 8], [0, 0, 8]], atol=1e-12)


# --------------------------------------------------------------------------------------------------------- sampling


def test_a_face_in_place_comes_out_pixel_by_pixel():
    np.testing.assert_array_equal(align(NOISE, IN_PLACE)[..., 0], NOISE)


@pytest.mark.parametrize("shift", [(10, 0), (0, -7), (-20, 30)])
def test_a_shifted_face_is_cropped_and_filled_with_black(shift):
    columns, rows = shift
    picture = np.zeros((144, 144), np.uint8)
    inside = (
        slice(max(0, rows), min(144, 144 + rows)),
        slice(max(0, columns), min(144, 144 + columns)),
    )
    origin = (
        slice(max(0, -rows), min(144, 144 - rows)),
        slice(max(0, -columns), min(144, 144 - columns)),
    )
    picture[inside] = NOISE[origin]  # the face moves right by `columns` and down by `rows`; some of it is lost
    expected = np.zeros_like(NOISE)
    expected[origin] = NOISE[origin]
    np.testing.assert_array_equal(align(picture, IN_PLACE + shift)[..., 0], expected)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_head_turned_by_right_angles_is_turned_back(quarters):
    turned = np.rot90(NOISE, quarters)
    # rot90 turns counter-clockwise as seen: a pixel (x, y) of a square of 144 goes to (y, 143 - x).
    points = IN_PLACE
    for _ in range(quarters):
        points = np.column_stack([points[:, 1], 143 - points[:, 0]])
    np.testing.assert_array_equal(align(turned, points)[..., 0], NOISE)


@pytest.mark.parametrize("factor", [2, 3, 8, 11])
def test_a_fine_picture_is_averaged(factor):
    fine = np.kron(NOISE, np.ones((factor, factor), np.uint8))
    # The centre of a square of n pixels is (n - 1) / 2 pixels from the centre of its first pixel.
    points = IN_PLACE * factor + (factor - 1) / 2
    np.testing.assert_array_equal(align(fine, points)[..., 0], NOISE)


def test_a_fine_pattern_becomes_its_mean_and_no_other_pattern():
    rows, columns = np.indices((1600, 1600))
    checks = ((rows + columns) % 2 * 255).astype(np.uint8)
    face = align(checks, IN_PLACE * 10.6)[..., 0]
    assert abs(face.astype(int) - 127).max() <= 1


def wavy(x, y):
    return 127 + 60 * np.sin(x / 17) + 60 * np.cos(y / 13 + x / 40)


@pytest.mark.parametrize(
    "points",
    [
        [[60.3, 80.1], [101.7, 92.2], [75.0, 100.0], [50.0, 121.0], [86.5, 131.0]],
        [[90.0, 60.0], [60.0, 100.0], [110.0, 110.0], [130.0, 95.0], [104.0, 131.0]],
        [[50.0, 50.0], [150.0, 50.0], [100.0, 90.0], [60.0, 140.0], [140.0, 140.0]],
    ],
    ids=["tilted", "lying", "large"],
)
def test_every_pixel_is_the_picture_at_its_place(points):
    rows, columns = np.indices((180, 200))
    picture = np.round(wavy(columns, rows)).astype(np.uint8)
    face = align(picture, points, size=64, eye_mouth_distance=24, eye_row=20)[..., 0].astype(float)
    matrix = similarity_transform(points, size=64, eye_mouth_distance=24, eye_row=20)
    out_rows, out_columns = np.indices((64, 64))
    x, y = np.linalg.solve(matrix[:, :2], np.stack([out_columns.ravel(), out_rows.ravel()]) - matrix[:, 2:])
    expected = wavy(x, y).reshape(64, 64)
    inside = ((x > 4) & (x < 195) & (y > 4) & (y < 175)).reshape(64, 64)
    assert inside.sum() > 1000
    # Interpolation and rounding to whole levels, as a root mean square; half a pixel off gives more than 2 levels.
    assert np.sqrt(np.mean((face - expected)[inside] ** 2)) < 1.3
    assert abs(np.mean((face - expected)[inside])) < 0.2


@pytest.fixture(scope="module")
def faces():
    with np.load(real_file("data/orl_faces.npz")) as arrays:
        return arrays["images"]


def test_144_without_its_outer_8_pixels_is_128(faces):
    generator = np.random.default_rng(1)
    mean = np.array([[30.0, 48.0], [62.0, 48.0], [46.0, 66.0], [34.0, 86.0], [58.0, 86.0]])
    for image in faces[::8]:
        points = mean + generator.normal(0, 4, (5, 2))
        train = align(image, points, size=144, eye_mouth_distance=48, eye_row=48)
        test = align(image, points, size=128, eye_mouth_distance=48, eye_row=40)
        np.testing.assert_array_equal(train[8:-8, 8:-8], test)
        assert test.std() > 20  # there is a face


def test_colour_and_grey_and_pillow_images_agree(faces):
    points = [[30, 48], [62, 50], [46, 66], [34, 86], [58, 88]]
    grey = align(faces[0], points, size=128, eye_row=40)
    assert grey.shape == (128, 128, 1)
    assert grey.dtype == np.uint8
    colour = align(np.stack([faces[0], faces[0] // 2, 255 - faces[0]], axis=-1), points, size=128, eye_row=40)
    assert colour.shape == (128, 128, 3)
    np.testing.assert_array_equal(colour[..., :1], grey)
    np.testing.assert_array_equal(align(faces[0][..., None], points, size=128, eye_row=40), grey)
    np.testing.assert_array_equal(align(Image.fromarray(faces[0]), points, size=128, eye_row=40), grey)
    grey[:] = 0  # the result may be written to


def test_a_picture_is_not_changed(faces):
    before = faces[0].copy()
    align(faces[0], [[30, 48], [62, 50], [46, 66], [34, 86], [58, 88]])
    np.testing.assert_array_equal(faces[0], before)


# -------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (IN_PLACE[:4], r"five landmarks.*shape \(4, 2\)"),
        (IN_PLACE.ravel(), r"five landmarks.*shape \(10,\)"),
        (np.where(IN_PLACE == 70, np.nan, IN_PLACE), r"finite landmarks.*\(72, nan\)"),
        (IN_PLACE[[0, 0, 2, 3, 4]], r"two eyes.*at least 1 pixel apart.*\(50, 48\), \(50, 48\)"),
        (IN_PLACE * [1, 0], r"the mouth .* is level with the eyes.*Are the points in the order"),
        (IN_PLACE[[0, 0, 0, 0, 0]], r"degenerate"),
        (IN_PLACE + np.array([0, 60]), r"outside the picture: it has 144 x 144 pixels.*\(56, 156\)"),
        (IN_PLACE - np.array([60, 0]), r"outside the picture"),
        (IN_PLACE * 4, r"before it was made smaller"),
    ],
)
def test_landmarks_that_cannot_be_are_a_data_error(points, message):
    with pytest.raises(DataError, match=message):
        align(NOISE, points)


def test_a_pixel_of_tolerance_at_the_border():
    points = IN_PLACE.copy()
    points[3:, 1] = 144  # counted from 1, or from the corner of a pixel, this is the last row
    assert align(NOISE, points).any()


@pytest.mark.parametrize("settings", [{"size": 0}, {"eye_mouth_distance": 0}, {"eye_mouth_distance": math.inf}])
def test_a_frame_that_cannot_be_is_named(settings):
    with pytest.raises(ValueError, match=r"Expected a `size` of at least 1.*Received: size="):
        similarity_transform(IN_PLACE, **settings)


@pytest.mark.parametrize(
    "image",
    [NOISE.astype(float), NOISE[0], np.zeros((10, 10, 4), np.uint8), np.zeros((0, 10), np.uint8)],
    ids=["float", "flat", "four channels", "empty"],
)
def test_pixels_of_another_kind_are_named(image):
    with pytest.raises(ValueError, match=r"Expected uint8 pixels of shape.*Received: \w+ \("):
        align(image, IN_PLACE)


def test_an_image_of_another_mode_is_named():
    with pytest.raises(ValueError, match=r"mode L or RGB.*Received: RGBA"):
        align(Image.new("RGBA", (144, 144)), IN_PLACE)
