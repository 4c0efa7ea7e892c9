"""A recipe says what to train; a run is the folder that holds what came of it."""

from lightcnn.runs.comparing import compare
from lightcnn.runs.folder import Run, default_run_folder
from lightcnn.runs.loading import load_data
from lightcnn.runs.recipe import FACES, FIXED_SIZE, IMAGES, SPEECH, TASKS, Recipe, parse_settings

__all__ = [
    "FACES",
    "FIXED_SIZE",
    "IMAGES",
    "SPEECH",
    "TASKS",
    "Recipe",
    "Run",
    "compare",
    "default_run_folder",
    "load_data",
    "parse_settings",
]
