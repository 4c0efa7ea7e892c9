"""Functions that return a functional `keras.Model`, and the files that models are kept in."""

from lightcnn.models.face import (
    FACE_PRESETS,
    FacePreset,
    light_cnn_4,
    light_cnn_9,
    light_cnn_29,
    light_cnn_29v2,
    light_cnn_v4,
)
from lightcnn.models.image import lcnn
from lightcnn.models.mixtures import GaussianMixtures, fit_gaussian_mixtures, load_gaussian_mixtures
from lightcnn.models.saving import (
    describe_layers,
    load_model,
    read_metadata,
    save_model,
    write_metadata,
)
from lightcnn.models.speech import (
    from_samples,
    lcnn_attention,
    lcnn_fixed,
    lcnn_lstm_sum,
    stc2017,
    stc2019,
)

__all__ = [
    "FACE_PRESETS",
    "FacePreset",
    "GaussianMixtures",
    "describe_layers",
    "fit_gaussian_mixtures",
    "from_samples",
    "lcnn",
    "lcnn_attention",
    "lcnn_fixed",
    "lcnn_lstm_sum",
    "light_cnn_29",
    "light_cnn_29v2",
    "light_cnn_4",
    "light_cnn_9",
    "light_cnn_v4",
    "load_gaussian_mixtures",
    "load_model",
    "read_metadata",
    "save_model",
    "stc2017",
    "stc2019",
    "write_metadata",
]
