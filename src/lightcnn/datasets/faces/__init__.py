"""Faces: pictures by person, pairs to verify, landmarks, and the published sets of them."""

from lightcnn.datasets.faces.identities import FaceFiles, all_pairs, open_set_split, read_identities
from lightcnn.datasets.faces.insightface import PackedPairs, read_insightface_bin
from lightcnn.datasets.faces.landmarks import find_landmarks, landmarks_of, read_landmarks
from lightcnn.datasets.faces.loading import FaceDataset, load_faces
from lightcnn.datasets.faces.orl import OrlFaces, load_orl
from lightcnn.datasets.faces.pairs import FacePairs, read_pairs

__all__ = [
    "FaceDataset",
    "FaceFiles",
    "FacePairs",
    "OrlFaces",
    "PackedPairs",
    "all_pairs",
    "find_landmarks",
    "landmarks_of",
    "load_faces",
    "load_orl",
    "open_set_split",
    "read_identities",
    "read_insightface_bin",
    "read_landmarks",
    "read_pairs",
]
