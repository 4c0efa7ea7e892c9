"""Cosine transforms, deltas and energy against SciPy and sums written out."""

import numpy as np
import pytest
from scipy import fft
from test_frontends import noise, run

from lightcnn.frontends import LFCC, DCTFrames, FilterBank, Spectrum, cosine_transform


@pytest.mark.parametrize(("length", "count"), [(1, None), (20, None), (70, 20), (863, 863)])
def test_the_cosine_transform_is_scipys(length, count):
    expected = fft.dct(np.eye(length), type=2, norm="ortho")[:, :count]
    np.testing.assert_allclose(cosine_transform(length, count), expected, rtol=0, atol=1e-12)


def test_coefficients_are_the_cosine_transform_of_the_filter_bank():
    samples = noise(1, 2000)
    arguments = {"num_filters": 30, "fft_length": 512, "log": "ln", "epsilon": 1e-4}
    expected = fft.dct(run(FilterBank(**arguments), samples), type=2, norm="ortho")[..., :12]
    features = run(LFCC(**arguments, num_coefficients=12, delta_orders=0), samples)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("half_width", [1, 2, 3])
@pytest.mark.parametrize("num_samples", [320, 500, 2000])
def test_deltas_sum_differences_and_repeat_the_edges(half_width, num_samples):
    front_end = LFCC(6, fft_length=512, delta_half_width=half_width, delta_scale=0.5)
    features = run(front_end, noise(1, num_samples))[0]
    assert features.shape == (front_end.num_frames(num_samples), 18)
    last = len(features) - 1
    for given, made in ((features[:, :6], features[:, 6:12]), (features[:, 6:12], features[:, 12:])):
        for frame in range(len(features)):
            expected = sum(
                by * (given[min(frame + by, last)] - given[max(frame - by, 0)]) for by in range(1, half_width + 1)
            )
            np.testing.assert_allclose(made[frame], 0.5 * expected, rtol=1e-4, atol=1e-5)


def test_energy_takes_the_place_of_the_0th_coefficient_only():
    samples = noise(1, 2000)
    arguments = {"num_filters": 20, "fft_length": 512, "delta_orders": 0}
    without, with_energy = (run(LFCC(**arguments, energy=energy), samples) for energy in (False, True))
    np.testing.assert_array_equal(with_energy[..., 1:], without[..., 1:])
    power = run(Spectrum(fft_length=512), samples)
    np.testing.assert_allclose(with_energy[..., 0], np.log10(power.sum(axis=-1) / 512 + 2.0**-23), rtol=1e-5)


def test_an_orthonormal_transform_keeps_the_energy_of_a_frame():
    samples = noise(1, 1000)
    features = run(DCTFrames(frame_length=100, frame_step=100, window="rectangular"), samples)[0]
    energies = (samples.reshape(10, 100).astype("float64") ** 2).sum(axis=1)
    np.testing.assert_allclose((features**2).sum(axis=1), energies, rtol=1e-5)


def test_a_cosine_of_the_transform_is_one_coefficient_with_its_sign():
    samples = -np.cos(np.pi * 7 / 64 * (np.arange(64) + 0.5))[None].astype("float32")
    features = run(DCTFrames(8000, 64, 64, window="rectangular", num_coefficients=10), samples)[0, 0]
    np.testing.assert_allclose(features, [0, 0, 0, 0, 0, 0, 0, -np.sqrt(32), 0, 0], rtol=1e-5, atol=1e-5)
