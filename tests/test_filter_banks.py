"""Triangular filters against stored tensors, interpolation and published mel frequencies."""

import numpy as np
import pytest
from conftest import real_file
from test_frontends import noise, run

from lightcnn.frontends import FilterBank, Spectrum, lfcc_asvspoof2021, lfcc_gmm2021, lfcc_nii, triangular_filters


@pytest.fixture(scope="module")
def stored():
    """The tensors of a countermeasure that NII trained: its front end is among them."""
    torch = pytest.importorskip("torch")
    return torch.load(real_file("golden/nii_lfcc_lcnn_lstm_sig.pt"), weights_only=True, map_location="cpu")


def test_the_filters_of_nii(stored):
    expected = stored["m_frontend.0.lfcc_fb"].numpy()
    assert lfcc_nii().filters.shape == expected.shape == (257, 20)
    np.testing.assert_allclose(lfcc_nii().filters, expected, rtol=0, atol=1e-5)


def test_the_cosines_of_nii(stored):
    expected = stored["m_frontend.0.l_dct.weight"].numpy().T  # stored as outputs by inputs
    np.testing.assert_allclose(lfcc_nii().cosines, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", ["linear", "mel"])
def test_triangles_interpolate_between_0_1_and_0(scale):
    frequencies = np.linspace(0, 8000, 513)
    filters = triangular_filters(frequencies, 20, 300.0, 7000.0, scale)
    mel = 1127.0104801 * np.log1p(np.array([300.0, 7000.0]) / 700)
    corners = np.linspace(300, 7000, 22) if scale == "linear" else 700 * np.expm1(np.linspace(*mel, 22) / 1127.0104801)
    for index in range(20):
        expected = np.interp(frequencies, corners[index : index + 3], [0, 1, 0], left=0, right=0)
        np.testing.assert_allclose(filters[:, index], expected, rtol=0, atol=1e-6)


def test_the_mel_scale_is_htks():
    # 1000 Hz is 1000 mel: filters from 0 to 3000 Hz whose tops are 1000 mel apart from 0 have one at 1000 Hz.
    high = 700 * (10 ** (2000 / 2595) - 1)
    filters = triangular_filters(np.arange(0.0, 4001.0), 1, 0.0, high, "mel")
    assert filters[:, 0].argmax() == pytest.approx(1000, abs=1)


def test_neighbouring_triangles_add_up_to_one():
    filters = triangular_filters(np.linspace(0, 8000, 257), 20, 0.0, 8000.0)
    between = slice(13, 244)  # from the first top (381 Hz) to the last (7619 Hz)
    np.testing.assert_allclose(filters[between].sum(axis=1), 1.0, rtol=1e-12)


def test_stretched_bins_lie_evenly_in_the_band():
    # 256 bins over 4000 Hz: 15.686 Hz a bin, so the first top, 4000 / 21 Hz, is at bin 12.14.
    assert lfcc_asvspoof2021().filters.shape == (256, 20)
    assert lfcc_asvspoof2021().filters[12, 0] == pytest.approx(12 / (255 / 21), rel=1e-6)


def test_corners_on_whole_bins():
    # The first corners, 0, 56.3 and 112.7 Hz, are moved down to the bins 0, 3 and 7 of 15.6 Hz.
    front_end = lfcc_gmm2021()
    assert front_end.filters.shape == (513, 70)
    np.testing.assert_allclose(front_end.filters[:8, 0], [0, 1 / 3, 2 / 3, 1, 3 / 4, 2 / 4, 1 / 4, 0], rtol=1e-6)
    assert front_end.filters[256:].max() == 0  # nothing from 4 kHz on
    assert FilterBank.from_config({**FilterBank(20, whole_bins=True).get_config()}).whole_bins
    with pytest.raises(ValueError, match="are narrower than the distance"):
        lfcc_gmm2021(num_filters=400)


def test_a_filter_bank_is_the_weighted_sum_of_a_spectrum():
    samples = noise(2, 2000)
    front_end = FilterBank(10, scale="mel", fft_length=512, log="ln", epsilon=1e-3)
    power = run(Spectrum(fft_length=512), samples)
    expected = np.log(np.einsum("btk,kf->btf", power, front_end.filters) + 1e-3)
    np.testing.assert_allclose(run(front_end, samples), expected, rtol=1e-5, atol=1e-5)
