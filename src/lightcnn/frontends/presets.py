"""The front ends that published systems were measured with, number by number.

All take 16,000 Hz. Each function takes arguments that replace those of its row, such as `name` or
`transform="matrix"`. Features come out time first, `(batch, frames, features)`, also where a paper prints frequency by
time.
"""

from lightcnn.frontends.cepstra import LFCC, DCTFrames
from lightcnn.frontends.constant_q import CQCC, ConstantQ
from lightcnn.frontends.filter_banks import FilterBank
from lightcnn.frontends.spectra import Spectrum

__all__ = [
    "PRESETS",
    "cqcc_asvspoof2019",
    "lfb_nii",
    "lfcc_asvspoof2019",
    "lfcc_asvspoof2021",
    "lfcc_gmm2021",
    "lfcc_nii",
    "spectrum_nii",
    "stc2017_fft",
    "stc2019_cqt",
    "stc2019_dct",
    "stc2019_fft",
]

_EPSILON_32 = 2.0**-23  # of float32, as PyTorch states it
_EPSILON_64 = 2.0**-52  # of float64: Matlab's `eps`

# What NII's front ends share: torch.stft(512 or 1024, hop 160, window 320) with its defaults.
_NII = {
    "sampling_rate": 16000,
    "frame_length": 320,
    "frame_step": 160,
    "fft_length": 512,
    "window": "hamming",
    "periodic_window": True,
    "framing": "centered",
    "epsilon": _EPSILON_32,
}
# What STC's 2019 front ends share, as far as others' reproductions tell.
_STC = {"sampling_rate": 16000, "window": "blackman", "periodic_window": True}


def lfcc_asvspoof2019(**overrides):
    """Returns the LFCC of the ASVspoof 2019 baseline (LFCC-GMM, Matlab): 60 features a frame.

    Pre-emphasis 0.97, first sample kept (`filter([1 -0.97], 1, x)`). Frames of 20 ms (320 samples) every 10 ms
    (160), zeros completing the last one (`buffer` with "nodelay"), not centred; symmetric Hamming window; FFT of 512,
    power. 20 triangles on 22 corners from 0 to 8000 Hz; log10 of (value + 2.2e-16, Matlab's `eps`); orthonormal DCT-II,
    all 20 coefficients with the 0th. Deltas `c[t+1] - c[t-1]` and their deltas, neither halved nor normalized, the
    edges repeated.

    Source:
        `extract_lfcc(x, fs, 20, 512, 20)` and `deltas(., 3)` of the ASVspoof 2019 baseline.

    Example:
    >>> lightcnn.frontends.lfcc_asvspoof2019()(np.zeros((1, 64000), "float32")).shape
    TensorShape([1, 399, 60])
    """
    row = {
        "sampling_rate": 16000,
        "pre_emphasis": 0.97,
        "frame_length": 320,
        "frame_step": 160,
        "framing": "pad_tail",
        "window": "hamming",
        "periodic_window": False,
        "fft_length": 512,
        "num_filters": 20,
        "num_coefficients": 20,
        "log": "log10",
        "epsilon": _EPSILON_64,
        "energy": False,
        "delta_orders": 2,
        "delta_half_width": 1,
        "delta_scale": 1.0,
    }
    return LFCC(**(row | overrides))


def lfcc_nii(**overrides):
    """Returns the LFCC of NII's LCNN family (Wang and Yamagishi 2021): 60 features a frame.

    Pre-emphasis 0.97, first sample kept. Frames of 320 samples every 160, centred, with zeros at the ends; periodic
    Hamming window in the middle of an FFT of 512; power. 20 triangles on 22 corners from 0 to 8000 Hz; log10 of
    (value + 1.19e-7, float32's epsilon); orthonormal DCT-II, 20 coefficients, the 0th replaced by log10 of (sum of
    power / 512 + 1.19e-7). Deltas `c[t+1] - c[t-1]` and their deltas, the edges repeated.

    Source:
        `LFCC(320, 160, 512, 16000, 20, with_energy=True)` of NII's scripts; https://arxiv.org/abs/2103.11326

    Example:
    >>> lightcnn.frontends.lfcc_nii()(np.zeros((1, 64000), "float32")).shape
    TensorShape([1, 401, 60])
    """
    row = _NII | {"pre_emphasis": 0.97, "num_filters": 20, "energy": True, "log": "log10"}
    return LFCC(**(row | overrides))


def lfcc_asvspoof2021(**overrides):
    """Returns the LFCC of the ASVspoof 2021 baseline B03 (LFCC-LCNN-LSTM; LA, PA and DF): 60 features a frame.

    As `lfcc_nii` but for an FFT of 1024 of which the first 256 bins (up to 4 kHz) are kept; their frequencies are taken
    as 256 even steps from 0 to 4000 Hz (15.686 Hz a step, where the true one is 15.625), and the 20 triangles stand on
    22 corners in that band. The energy is the sum of those 256 bins / 1024.

    Source:
        The ASVspoof 2021 baseline, `LFCC(320, 160, 1024, 16000, 20, with_energy=True, max_freq=0.5)`.

    Example:
    >>> lightcnn.frontends.lfcc_asvspoof2021()(np.zeros((1, 64000), "float32")).shape
    TensorShape([1, 401, 60])
    """
    row = _NII | {
        "fft_length": 1024,
        "num_bins": 256,
        "high_frequency": 4000.0,
        "stretch_bins": True,
        "pre_emphasis": 0.97,
        "num_filters": 20,
        "energy": True,
        "log": "log10",
    }
    return LFCC(**(row | overrides))


def lfcc_gmm2021(**overrides):
    """Returns the LFCC of the ASVspoof 2021 baseline B02 in Python (LFCC-GMM, by way of spafe): 60 features a frame.

    No pre-emphasis. Frames of 30 ms (480 samples) every 15 ms (240), the tail dropped; symmetric Hamming window; FFT of
    1024, power, all 513 bins. 70 triangles on 72 corners from 0 to 4000 Hz, moved down to whole bins as by spafe
    0.1, whose functions the baseline imports. (Since 0.2 spafe lacks them, and stretches the bins of 0 to 8000 Hz onto
    0 to 4000 Hz: other features.) log10 of (value + 2.2e-16); orthonormal DCT-II, 20 coefficients with the 0th. Deltas
    `c[t+1] - c[t-1]` and their deltas, the edges repeated.

    The Matlab version of B02 leaves the corners where they are, has 19 coefficients with the 0th (its README says 19
    and the 0th), and halves the deltas:
    `lfcc_gmm2021(whole_bins=False, num_coefficients=19, delta_scale=0.5, framing="pad_tail")`.

    Source:
        `LFCC_pipeline.py` and `gmm.py` of the ASVspoof 2021 baseline; spafe 0.1.2.

    Example:
    >>> lightcnn.frontends.lfcc_gmm2021()(np.zeros((1, 64000), "float32")).shape
    TensorShape([1, 265, 60])
    """
    row = {
        "sampling_rate": 16000,
        "frame_length": 480,
        "frame_step": 240,
        "framing": "drop_tail",
        "window": "hamming",
        "periodic_window": False,
        "fft_length": 1024,
        "num_filters": 70,
        "high_frequency": 4000.0,
        "whole_bins": True,
        "num_coefficients": 20,
        "log": "log10",
        "epsilon": _EPSILON_64,
    }
    return LFCC(**(row | overrides))


def lfb_nii(**overrides):
    """Returns NII's linear filter bank (LFB): 60 features a frame.

    As `lfcc_nii` (pre-emphasis 0.97, 320/160/512, periodic Hamming, centred), with 60 triangles on 62 corners from 0 to
    8000 Hz, log10 of (value + 1.19e-7), and neither DCT, energy nor deltas.

    Source:
        `LFB(320, 160, 512, 16000, 60)` of NII's scripts; https://arxiv.org/abs/2103.11326

    Example:
    >>> lightcnn.frontends.lfb_nii()(np.zeros((1, 64000), "float32")).shape
    TensorShape([1, 401, 60])
    """
    return FilterBank(**(_NII | {"pre_emphasis": 0.97, "num_filters": 60, "log": "log10"} | overrides))


def spectrum_nii(**overrides):
    """Returns NII's power spectrum ("spec2"): 257 features a frame.

    As `lfcc_nii` (pre-emphasis 0.97, 320/160/512, periodic Hamming, centred), the power without a logarithm, as in the
    copy that came with ASVspoof 2021. NII's scripts also have log10 of (power + 1.19e-7):
    `spectrum_nii(log="log10")`.

    Source:
        `Spectrogram(320, 160, 512, 16000)` of NII's scripts; https://arxiv.org/abs/2103.11326

    Example:
    >>> lightcnn.frontends.spectrum_nii()(np.zeros((1, 64000), "float32")).shape
    TensorShape([1, 401, 257])
    """
    return Spectrum(**(_NII | {"pre_emphasis": 0.97, "log": None} | overrides))


def stc2019_fft(**overrides):
    """Returns the log power spectrum of STC's 2019 FFT-LCNN: 863 features a frame, 600 frames of 77,870 samples.

    The paper prints it as 863 x 600; here it is `(batch, 600, 863)`. No pre-emphasis; frames of 1724 samples every
    0.0081 s (130 samples; 129.6 exactly), periodic Blackman window, FFT of 1724, all 863 bins; ln of (power + 1e-8).
    STC kept the first 600 frames of a file: `stc2019_fft().samples_for(600)` samples. Framing is centred with zeros at
    the ends, the floor is 1e-8 and the logarithm natural: the paper states none of these, and reproductions differ
    (another one has `log="decibel", minimum=1e-30, epsilon=0.0`). The transform is a matrix: 1724 = 4 x 431,
    and float32 FFTs by way of so large a prime miss the quietest bins of speech by up to 0.1 (0.3 % of the features'
    range), the matrix by 0.005. `transform="fft"` takes a quarter of its time.

    Source:
        https://arxiv.org/abs/1904.05576, section 3, and its reproductions.

    Example:
    >>> lightcnn.frontends.stc2019_fft()(np.zeros((1, 77870), "float32")).shape
    TensorShape([1, 600, 863])
    """
    row = _STC | {
        "frame_length": 1724,
        "frame_step": 130,
        "framing": "centered",
        "log": "ln",
        "epsilon": 1e-8,
        "transform": "matrix",
    }
    return Spectrum(**(row | overrides))


def stc2017_fft(**overrides):
    """Returns the log magnitude spectrum of STC's 2017 replay LCNN: 864 features a frame, 400 frames of 64,240 samples.

    The paper prints it as 864 x 400; here it is `(batch, 400, 864)`. Pre-emphasis 0.97, first sample kept; frames of
    400 samples every 160, the tail dropped; symmetric Hamming window; FFT of 1728, the first 864 of 865 bins; ln of
    (magnitude + e^-80), so digital silence is -80.

    NII's reproduction reads 16-bit integers: its values are higher by ln 32768 = 10.4, digital silence apart; it has
    one frame less where the last one ends with the file. The original also removed silence and normalized a file's
    features, which this does not.

    Source:
        Lavrentyeva et al., "Audio Replay Attack Detection with Deep Learning Frameworks", Interspeech 2017, as NII's
        reproduction has it.

    Example:
    >>> lightcnn.frontends.stc2017_fft()(np.zeros((1, 64240), "float32")).shape
    TensorShape([1, 400, 864])
    """
    row = {
        "sampling_rate": 16000,
        "pre_emphasis": 0.97,
        "frame_length": 400,
        "frame_step": 160,
        "framing": "drop_tail",
        "window": "hamming",
        "periodic_window": False,
        "fft_length": 1728,
        "num_bins": 864,
        "quantity": "magnitude",
        "log": "ln",
        "epsilon": 1.8048513878454153e-35,  # e^-80
    }
    return Spectrum(**(row | overrides))


def stc2019_cqt(**overrides):
    """Returns the constant-Q transform of STC's 2019 CQT-LCNN: 863 features a frame, 600 frames of 76,672 samples.

    863 bins, 96 an octave, from 15.625 Hz (16000 / 2^10) to 7885 Hz; a frame every 128 samples, centred; gamma 1.657 Hz
    (228.7 (2^(1/96) - 1): bandwidths in proportion to the ear's, as in the CQCC baseline); ln of (power + 1e-12), which
    is about what the rounding of 16-bit audio has in a bin.
    Here `(batch, 600, 863)`, where papers print 863 x 600. STC's own parameters are not published: these are the
    challenge's CQCC baseline's, and they give 863 bins.

    Source:
        https://arxiv.org/abs/1904.05576 and the ASVspoof 2019 CQCC baseline.

    Example:
    >>> lightcnn.frontends.stc2019_cqt()(np.zeros((1, 76672), "float32")).shape
    TensorShape([1, 600, 863])
    """
    row = {
        "sampling_rate": 16000,
        "frame_step": 128,
        "num_bins": 863,
        "bins_per_octave": 96,
        "min_frequency": 15.625,
        "gamma": 228.7 * (2 ** (1 / 96) - 1),
        "quantity": "power",
        "log": "ln",
        "epsilon": 1e-12,
    }
    return ConstantQ(**(row | overrides))


def stc2019_dct(**overrides):
    """Returns the cosine transform of STC's 2019 DCT-LCNN (PA): 863 features a frame, 600 frames of 77,535 samples.

    Frames of 863 samples every 128, the tail dropped; periodic Blackman window; orthonormal DCT-II, all 863
    coefficients, no logarithm. Here `(batch, 600, 863)`, where papers print 863 x 600. STC's own parameters are not
    published: these are those of a later reproduction.

    Source:
        https://arxiv.org/abs/1904.05576, and Lee's reproduction, https://github.com/shihkuanglee/RD-LCNN

    Example:
    >>> lightcnn.frontends.stc2019_dct()(np.zeros((1, 77535), "float32")).shape
    TensorShape([1, 600, 863])
    """
    row = _STC | {"frame_length": 863, "frame_step": 128, "framing": "drop_tail"}
    return DCTFrames(**(row | overrides))


def cqcc_asvspoof2019(**overrides):
    """Returns the CQCC of the ASVspoof 2019 baseline B01 (CQCC-GMM): 90 features a frame.

    `cqcc(x, fs, 96, fs/2, fs/2^10, 16, 29, 'ZsdD')`: the constant-Q transform of `stc2019_cqt` (863 bins, 96 an octave,
    from 15.625 Hz; gamma), ln of (power + 2.2e-16), read by a spline at even distances of 15.625 / 16 Hz (16 in the
    first octave), orthonormal DCT-II, coefficients 0 to 29; deltas over 3 frames on both sides divided by 28 (HTK's
    regression), and their deltas.

    It is made from the paper and not from the authors' toolbox (whose licence forbids that), and differs from it: the
    toolbox's windows are Hann in frequency, and here they are Hann in time of about the same bandwidth; its frames are
    8.5 ms apart (a number that follows from the highest bin), here 8 ms; it scales every bin by its bandwidth. A
    baseline's figures are met in kind and not to the digit.

    Source:
        https://doi.org/10.1016/j.csl.2017.01.001 and the ASVspoof 2019 baseline's call.

    Example:
    >>> lightcnn.frontends.cqcc_asvspoof2019()(np.zeros((1, 64000), "float32")).shape
    TensorShape([1, 501, 90])
    """
    row = {
        "sampling_rate": 16000,
        "frame_step": 128,
        "num_bins": 863,
        "bins_per_octave": 96,
        "min_frequency": 15.625,
        "gamma": 228.7 * (2 ** (1 / 96) - 1),
        "quantity": "power",
        "log": "ln",
        "epsilon": _EPSILON_64,
        "samples_in_first_octave": 16,
        "num_coefficients": 30,
        "delta_orders": 2,
        "delta_half_width": 3,
        "delta_scale": 1 / 28,
    }
    return CQCC(**(row | overrides))


PRESETS = {
    function.__name__: function
    for function in (
        lfcc_asvspoof2019,
        lfcc_nii,
        lfcc_asvspoof2021,
        lfcc_gmm2021,
        lfb_nii,
        spectrum_nii,
        stc2019_fft,
        stc2017_fft,
        stc2019_cqt,
        stc2019_dct,
        cqcc_asvspoof2019,
    )
}
