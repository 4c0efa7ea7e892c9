"""Recordings with labels: the published anti-spoofing corpora, and one's own as a CSV."""

from lightcnn.datasets.speech.checking import CorpusReport, check
from lightcnn.datasets.speech.clips import audio_clips
from lightcnn.datasets.speech.columns import Column, SpeechSplit
from lightcnn.datasets.speech.corpora import CORPORA, Corpus, find_corpora
from lightcnn.datasets.speech.loading import SPEECH_LABELS, SpeechDataset, load_speech

__all__ = [
    "CORPORA",
    "Column",
    "Corpus",
    "CorpusReport",
    "SPEECH_LABELS",
    "SpeechDataset",
    "SpeechSplit",
    "audio_clips",
    "check",
    "find_corpora",
    "load_speech",
]
