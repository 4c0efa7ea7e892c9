"""Where data come from: file lists and arrays, no Keras."""

from lightcnn.datasets.images import DATASETS, ImageDataset, Split, load_images
from lightcnn.datasets.speech import (
    CORPORA,
    SPEECH_LABELS,
    CorpusReport,
    SpeechDataset,
    SpeechSplit,
    audio_clips,
    check,
    find_corpora,
    load_speech,
)

__all__ = [
    "CORPORA",
    "CorpusReport",
    "DATASETS",
    "ImageDataset",
    "SPEECH_LABELS",
    "SpeechDataset",
    "SpeechSplit",
    "Split",
    "audio_clips",
    "check",
    "find_corpora",
    "load_images",
    "load_speech",
]
