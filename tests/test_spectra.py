"""Windows and spectra against SciPy, sinusoids and Parseval's theorem."""

import numpy as np
import pytest
from keras import ops
from scipy import signal
from test_frontends import noise, run

from lightcnn.frontends import Spectrum, window_values


@pytest.mark.parametrize("length", [1, 2, 5, 320])
@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("name", ["rectangular", "hann", "hamming", "blackman"])
def test_windows_are_scipys(name, periodic, length):
    scipy_name = "boxcar" if name == "rectangular" else name
    expected = signal.get_window(scipy_name, length, fftbins=periodic)
    np.testing.assert_allclose(window_values(name, length, periodic), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("transform", ["fft", "matrix"])
@pytest.mark.parametrize("fft_length", [None, 100, 160])
def test_a_sinusoid_is_a_line_of_half_its_amplitude(transform, fft_length):
    # 800 Hz is a bin of both transforms: 8 of 100 and, at 160, 12.8 (between two).
    samples = 0.5 * np.cos(2 * np.pi * 800 / 10_000 * np.arange(1000) + 0.3)
    front_end = Spectrum(
        10_000, 100, 50, fft_length=fft_length, window="rectangular", quantity="magnitude", transform=transform
    )
    frame = run(front_end, samples[None].astype("float32"))[0, 7]
    assert frame.argmax() == round(0.08 * (fft_length or 100))
    if fft_length != 160:
        assert frame[8] == pytest.approx(0.5 * 100 / 2, rel=1e-5)
        assert np.delete(frame, 8).max() < 1e-4


@pytest.mark.parametrize("transform", ["fft", "matrix"])
def test_the_power_of_all_bins_is_the_energy_of_the_frame(transform):
    samples = noise(1, 640)
    power = run(Spectrum(window="rectangular", transform=transform, framing="drop_tail"), samples)[0, 1]
    energy = (samples[0, 160:480].astype("float64") ** 2).sum()
    # Bins between the first and the last stand for two, of positive and negative frequency.
    assert (2 * power.sum() - power[0] - power[-1]) / 320 == pytest.approx(energy, rel=1e-5)


def test_fft_and_matrix_agree():
    samples = noise(2, 3000)
    arguments = {"fft_length": 512, "pre_emphasis": 0.97, "framing": "centered", "num_bins": 200}
    fft, matrix = (run(Spectrum(transform=transform, **arguments), samples) for transform in ("fft", "matrix"))
    # rtol of one, atol of the largest: float32 sums of 320 terms.
    np.testing.assert_allclose(fft, matrix, rtol=1e-4, atol=1e-6 * fft.max())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"log": None}, lambda power: power),
        ({"log": None, "quantity": "magnitude"}, np.sqrt),
        ({"log": "ln", "epsilon": 0.5}, lambda power: np.log(power + 0.5)),
        ({"log": "log10", "minimum": 0.5}, lambda power: np.log10(np.clip(power, 0.5, None))),
        (
            {"log": "decibel", "epsilon": 0.25, "minimum": 0.5},
            lambda power: 10 * np.log10(np.clip(power, 0.5, None) + 0.25),
        ),
    ],
)
def test_logarithms_and_floors(arguments, expected):
    samples = noise(1, 2000)
    power = run(Spectrum(), samples)
    np.testing.assert_allclose(run(Spectrum(**arguments), samples), expected(power), rtol=1e-5, atol=1e-5)


def test_pre_emphasis_keeps_the_first_sample():
    samples = np.zeros((1, 8), "float32")
    samples[0, 0] = 1.0
    front_end = Spectrum(8000, 1, 1, pre_emphasis=0.75)
    # A frame of one sample: its power is its square.
    np.testing.assert_allclose(run(front_end, samples)[0, :, 0], [1.0, 0.5625, 0, 0, 0, 0, 0, 0], rtol=1e-6)


@pytest.mark.parametrize(("window", "fft_length"), [("hamming", 512), ("hann", 400), ("blackman", 401)])
def test_centred_frames_are_pytorchs(window, fft_length):
    torch = pytest.importorskip("torch")
    samples = noise(1, 3333)
    values = torch.from_numpy(signal.get_window(window, 320))
    spectrum = torch.stft(
        torch.from_numpy(samples).double(), fft_length, 160, 320, values, pad_mode="constant", return_complex=True
    )
    power = spectrum.abs().square().mT.numpy()
    arguments = {"window": window, "fft_length": fft_length, "periodic_window": True, "framing": "centered"}
    np.testing.assert_allclose(run(Spectrum(**arguments), samples), power, rtol=1e-4, atol=1e-6 * power.max())


def test_frames_are_matlabs_buffer():
    # buffer(1:11, 4, 2, "nodelay"): columns 1-4, 3-6, 5-8, 7-10, 9-11 and one zero.
    samples = np.arange(1.0, 12.0, dtype="float32")[None]
    power = ops.convert_to_numpy(Spectrum(8000, 4, 2, window="rectangular", framing="pad_tail")(samples))
    sums = np.sqrt(power[0, :, 0])  # bin 0 is the sum of a frame
    np.testing.assert_allclose(sums, [10, 18, 26, 34, 30], rtol=1e-6)
