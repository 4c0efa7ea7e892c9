"""`python -m lightcnn`, the same as the command `lightcnn`."""

from lightcnn.cli import main

main(prog_name="lightcnn")
