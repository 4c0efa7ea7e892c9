"""Functions that return a functional `keras.Model`, and the files that models are kept in."""

from lightcnn.models.image import lcnn
from lightcnn.models.saving import load_model, read_metadata, save_model

__all__ = ["lcnn", "load_model", "read_metadata", "save_model"]
