"""The constant-Q transform against its defining sum, and its cepstra against SciPy's spline."""

import keras
import numpy as np
import pytest
import reference_features as reference
from scipy import fft
from test_frontends import noise, run

from lightcnn.frontends import CQCC, ConstantQ


@pytest.mark.parametrize("gamma", [0.0, 5.0])
@pytest.mark.parametrize("frame_step", [64, 50, 75])  # can be halved six times, once, never
def test_the_transform_is_the_sum_that_defines_it(gamma, frame_step):
    samples = noise(1, 3000)
    arguments = {"num_bins": 60, "bins_per_octave": 12, "min_frequency": 100.0, "gamma": gamma}
    expected = np.abs(reference.constant_q(samples[0], frame_step, *arguments.values(), 8000))
    magnitude = run(ConstantQ(8000, frame_step, quantity="magnitude", **arguments), samples)[0]
    # Halved rates fold and damp a little: 1e-4 of the largest value.
    np.testing.assert_allclose(magnitude, expected, rtol=0, atol=1e-4 * expected.max())
    # Each bin by itself, so that a quiet one is right as well.
    worst = np.abs(magnitude - expected).max(axis=0) / expected.max(axis=0)
    assert worst.max() < 1e-3


@pytest.mark.parametrize("octave", range(5))
def test_a_sinusoid_peaks_in_its_bin_at_half_its_amplitude(octave):
    front_end = ConstantQ(8000, 64, num_bins=60, bins_per_octave=12, min_frequency=110.0, quantity="magnitude")
    bin_of_tone = 12 * octave + 5
    assert front_end.frequencies[bin_of_tone] == pytest.approx(110 * 2**octave * 2 ** (5 / 12))
    tone = np.cos(2 * np.pi * front_end.frequencies[bin_of_tone] / 8000 * np.arange(8000))
    spectrum = run(front_end, tone[None].astype("float32"))[0]
    middle = spectrum[len(spectrum) // 2]
    assert middle.argmax() == bin_of_tone
    # The image at the negative frequency and the window's sampling: 1e-3.
    assert middle[bin_of_tone] == pytest.approx(0.5, rel=1e-3)
    # A Hann window of one bandwidth: its neighbours, one bandwidth away, see half (a little less above, more below).
    assert middle[bin_of_tone - 1 : bin_of_tone + 2 : 2] == pytest.approx(0.25, abs=0.03)
    assert middle[bin_of_tone + 4 :].max(initial=0) < 0.01


def test_an_impulse_shows_the_windows():
    samples = np.zeros((1, 4096), "float32")
    samples[0, 2048] = 1.0
    front_end = ConstantQ(8000, 64, num_bins=36, bins_per_octave=12, min_frequency=400.0, quantity="magnitude")
    response = run(front_end, samples)[0]
    bandwidths = front_end.frequencies * (2 ** (1 / 12) - 1)
    offsets = (np.arange(len(response)) * 64 - 2048)[:, None] / 8000 * bandwidths
    windows = np.where(np.abs(offsets) < 0.5, (1 + np.cos(2 * np.pi * offsets)) * bandwidths / 8000, 0)
    # The low-pass before halving spreads an impulse over a few samples.
    np.testing.assert_allclose(response, windows, rtol=0, atol=1e-4)


def test_kernels_are_few_numbers():
    front_end = ConstantQ()  # 8.8 s of audio in the lowest bin
    front_end.build((None, None))
    assert sum(kernel.size for _, kernel in front_end._kernels) < 2_000_000
    assert sum(kernel.shape[1] for _, kernel in front_end._kernels) == 2 * 863


def test_cepstra_are_the_cosine_transform_of_a_spline():
    samples = noise(1, 2000)
    arguments = {"sampling_rate": 8000, "frame_step": 64, "num_bins": 40, "bins_per_octave": 12, "min_frequency": 200.0}
    logs = run(ConstantQ(**arguments, log="ln", epsilon=1e-9), samples)[0]
    expected = fft.dct(reference.read_evenly(logs, 12, 200.0, 8), type=2, norm="ortho")[:, :15]
    features = run(CQCC(15, 8, delta_orders=0, epsilon=1e-9, **arguments), samples)[0]
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-5 * np.ptp(expected))


def test_deltas_are_htks_regression():
    # A ramp of one unit a frame has slope 1: HTK divides by 2 (1 + 4 + 9) = 28.
    front_end = CQCC(3, num_bins=40, bins_per_octave=12, min_frequency=200.0, sampling_rate=8000)
    features = run(front_end, noise(1, 2000))[0]
    steps = np.arange(-3, 4)
    slopes = [np.polyfit(steps, features[frame - 3 : frame + 4, :3], 1)[0] for frame in range(3, len(features) - 3)]
    np.testing.assert_allclose(features[3:-3, 3:6], slopes, rtol=1e-3, atol=1e-3 * np.ptp(slopes))


def test_a_model_of_any_length_gives_what_the_layer_gives():
    front_end = ConstantQ(8000, 32, num_bins=48, bins_per_octave=12, min_frequency=200.0, log="ln", epsilon=1e-9)
    inputs = keras.Input((None,))
    model = keras.Model(inputs, front_end(inputs))
    for num_samples in (31, 32, 1024, 1055):
        samples = noise(2, num_samples)
        np.testing.assert_allclose(model.predict(samples, verbose=0), run(front_end, samples), rtol=1e-4, atol=1e-3)
