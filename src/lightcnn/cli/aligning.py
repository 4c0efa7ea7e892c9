"""The command that cuts faces out of photographs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lightcnn.cli.faces import identity_of, landmark_options, landmark_source, pictures_of, root_of
from lightcnn.cli.group import OUTPUT, common, main
from lightcnn.cli.tables import print_table

__all__ = ["align"]

_EYE_ROWS = {"144": 48.0, "128": 40.0}  # the size of the frame in pixels -> the row of the eyes


@main.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--output", type=OUTPUT, required=True, help="The folder to write, new or empty.")
@click.option(
    "--size", type=click.Choice(list(_EYE_ROWS)), default="144", show_default=True, help="144 to train on, 128 to use."
)
@click.option("--channels", type=click.Choice(["1", "3"]), default="1", show_default=True, help="3 is for v4 alone.")
@landmark_options
@common
def align(
    files: tuple[str, ...],
    output: Path,
    size: str,
    channels: str,
    landmarks: Path | None,
    detect: bool,
    insightface_crops: bool,
    quiet: bool,
) -> None:
    """Cut faces out of photographs, as the Light CNNs are trained on them.

    FILES are pictures, or folders with one sub-folder a person, which the crops get too: `lightcnn train faces
    --data-dir OUTPUT` takes them.
    """
    source = landmark_source(landmarks, detect, insightface_crops)
    if source is None:
        raise click.UsageError("Say where the landmarks are: --landmarks, --detect or --insightface-crops.")

    from lightcnn.errors import DataError
    from lightcnn.inference.crops import align_files
    from lightcnn.progress import ProgressBar

    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise DataError(f"{output} is not an empty folder. Choose another --output, or delete what is there.")
    found, places, empty = pictures_of(list(files))
    crops = [output / place.with_suffix(".png") for place in places]
    rows = align_files(
        found,
        crops,
        source,
        data_dir=root_of(list(files)),
        size=int(size),
        eye_row=_EYE_ROWS[size],
        channels=int(channels),
    )
    people, failures = [], empty
    with ProgressBar(quiet) as bar:
        for row, place in zip(bar.track(rows, len(found), "Aligning"), places, strict=True):
            if "error" in row:
                failures += 1
                bar.say(f"{row['file']}: {row['error']}")
            else:
                people.append(identity_of(place))
    if not people:
        raise DataError(f"No face could be cut out. {output} was not written.")
    frame = f"{size} x {size} {'grey' if channels == '1' else 'colour'}, eyes at row {_EYE_ROWS[size]:g}"
    facts = [("pictures", f"{len(people):,}"), ("identities", f"{len(set(people) - {''}):,}"), ("frame", frame)]
    print_table((str(output), ""), facts)
    if failures:
        click.echo(f"{failures} of {failures + len(people)} files could not be aligned.", err=True)
        sys.exit(1)
