"""Seeded changes to what a network is trained on, on whole batches."""

from lightcnn.augmentation.audio import Clips, augment_audio, reverberate, room_responses
from lightcnn.augmentation.codecs import CODECS, a_law, mu_law, through_codec
from lightcnn.augmentation.images import augment_images, cut_and_mix
from lightcnn.augmentation.noise import add_noise, coloured_noise
from lightcnn.augmentation.rawboost import convolutive_noise, impulsive_noise, stationary_noise

__all__ = [
    "CODECS",
    "Clips",
    "a_law",
    "add_noise",
    "augment_audio",
    "augment_images",
    "coloured_noise",
    "convolutive_noise",
    "cut_and_mix",
    "impulsive_noise",
    "mu_law",
    "reverberate",
    "room_responses",
    "stationary_noise",
    "through_codec",
]
