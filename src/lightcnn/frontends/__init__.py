"""Waveform -> time-frequency image: the front ends of voice anti-spoofing, as Keras layers.

A front end takes samples `(batch, samples)`, floating point, in [-1, 1], and optionally the length of every row, and
returns `(batch, frames, features)` in float32: time first, also where papers print frequency by time.
"""

from lightcnn.frontends.cepstra import LFCC, DCTFrames, cosine_transform
from lightcnn.frontends.constant_q import CQCC, ConstantQ
from lightcnn.frontends.filter_banks import FilterBank, triangular_filters
from lightcnn.frontends.framing import FrontEnd, window_values
from lightcnn.frontends.presets import (
    PRESETS,
    cqcc_asvspoof2019,
    lfb_nii,
    lfcc_asvspoof2019,
    lfcc_asvspoof2021,
    lfcc_gmm2021,
    lfcc_nii,
    spectrum_nii,
    stc2017_fft,
    stc2019_cqt,
    stc2019_dct,
    stc2019_fft,
)
from lightcnn.frontends.spectra import Spectrum

__all__ = [
    "CQCC",
    "ConstantQ",
    "DCTFrames",
    "FilterBank",
    "FrontEnd",
    "LFCC",
    "PRESETS",
    "Spectrum",
    "cosine_transform",
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
    "triangular_filters",
    "window_values",
]
