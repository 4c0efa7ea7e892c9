"""The command `lightcnn`: every command calls a public function of the same name."""

from lightcnn.cli import aligning, bootstrapping, exporting, faces, files, info, runs  # noqa: F401  each adds its commands to the group
from lightcnn.cli.group import main

__all__ = ["main"]
