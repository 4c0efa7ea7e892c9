"""The commands for faces: embeddings, and whether two of them show one person."""

from __future__ import annotations

import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import click

from lightcnn.cli.files import load_predictor
from lightcnn.cli.group import OUTPUT_FILE, PATH, common, main, named_files
from lightcnn.cli.tables import print_json, print_table, tell_changes

__all__ = ["embed", "identity_of", "landmark_options", "landmark_source", "pictures_of", "root_of", "verify"]

_FLIP = click.option("--flip", is_flag=True, help="Add the embedding of the mirror image.")


def landmark_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say where landmarks come from; `landmark_source` reads them."""
    for option in (
        click.option("--insightface-crops", is_flag=True, help="Pictures are cut as insightface does: align them."),
        click.option("--detect", is_flag=True, help="Find landmarks; the largest face counts. Needs lightcnn[faces]."),
        click.option("--landmarks", type=PATH, help="Five points a picture to align by: CSV, JSON, .5pt or a folder."),
    ):
        command = option(command)
    return command


@main.command()
@click.argument("model", type=PATH)
@named_files
@click.option("--output", type=OUTPUT_FILE, required=True, help="The .npz file to write.")
@landmark_options
@_FLIP
@common
def embed(
    model: Path,
    names: list[str],
    output: Path,
    landmarks: Path | None,
    detect: bool,
    insightface_crops: bool,
    flip: bool,
    quiet: bool,
) -> None:
    """Embed pictures of faces into an .npz file.

    MODEL is a run folder or a model file (.onnx, .tflite, .xml, .keras), FILES are pictures, or folders with one
    sub-folder a person.
    """
    if output.suffix != ".npz":
        raise click.BadParameter(f"embeddings are written as .npz, received {output}.", param_hint="--output")
    source = landmark_source(landmarks, detect, insightface_crops)

    from lightcnn.errors import DataError
    from lightcnn.progress import ProgressBar

    predictor = _load(model, names)
    found, places, empty = pictures_of(names)
    if not found:
        raise DataError("There is no picture to embed.")

    from lightcnn.verification import embed as embed_files
    from lightcnn.verification import save_gallery

    with ProgressBar(quiet) as bar:
        gallery = embed_files(
            predictor,
            found,
            [identity_of(place) for place in places],
            landmarks=source,
            data_dir=root_of(names),
            flip=flip,
            track=bar.track,
        )
        for file, cause in gallery.failures:
            click.echo(f"{file}: {cause}", err=True)
        tell_changes(bar.tell, gallery.changes)
    if not len(gallery):
        raise DataError(f"No picture could be embedded. {output} was not written.")
    save_gallery(output, gallery)
    people = len(set(gallery.identities.tolist()) - {""})
    rows = [("pictures", f"{len(gallery):,}"), ("identities", f"{people:,}"), ("features", predictor.features)]
    print_table((str(output), ""), [*rows, ("model", gallery.model)])
    if failures := len(gallery.failures) + empty:
        click.echo(f"{failures} of {failures + len(gallery)} files could not be embedded.", err=True)
        sys.exit(1)


def pictures_of(names: list[str]) -> tuple[list[str], list[Path], int]:
    """Lists the pictures of files and folders, and each one's place in its folder; counts the folders without any."""
    from lightcnn.decoding import list_pictures
    from lightcnn.errors import DataError

    found: list[str] = []
    places: list[Path] = []
    empty = 0
    for name in names:
        if not os.path.isdir(name):  # noqa: PTH112  no error for a name that is too long
            found.append(name)
            places.append(Path(Path(name).name))
            continue
        try:
            pictures = [path.relative_to(name) for path in list_pictures(Path(name))[0]]
        except DataError as error:
            empty += 1
            click.echo(str(error), err=True)
            continue
        found += [f"{name.rstrip('/')}/{path}" for path in pictures]
        places += pictures
    return found, places, empty


def root_of(names: list[str]) -> str | None:
    """Returns the folder that a list of landmarks is relative to: the only one that is named, if any."""
    folders = [name for name in names if os.path.isdir(name)]  # noqa: PTH112
    return folders[0] if len(folders) == 1 else None


def identity_of(place: Path) -> str:
    """Returns who a picture shows: its sub-folder's name, or an empty text."""
    return place.parts[0] if len(place.parts) > 1 else ""


@main.command()
@click.argument("model", type=PATH)
@click.argument("images", nargs=-1)
@click.option("--pairs", type=PATH, help="LFW's pairs.txt, a CSV, YTF's splits.txt, or an insightface .bin.")
@click.option("--data-dir", type=PATH, help="The folder of the pictures.  [default: the list's own]")
@click.option("--identities", type=PATH, help="A sub-folder a person, or a list `path label`: open set.")
@click.option("--gallery", type=PATH, help="What `lightcnn embed` wrote: name who is most alike to IMAGES.")
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="How many people to name.")
@click.option(
    "--threshold", type=float, help="Cosine from which on it is one person; below it, --gallery names nobody."
)
@click.option("--repeats", type=click.IntRange(min=2), default=10, show_default=True, help="Trials of --identities.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides the trials of --identities."
)
@click.option("--output", type=OUTPUT_FILE, help="With --pairs: write the scores as CSV.")
@click.option("--report", type=OUTPUT_FILE, help="With --pairs: write a report as HTML.")
@landmark_options
@_FLIP
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@common
def verify(
    model: Path,
    images: tuple[str, ...],
    pairs: Path | None,
    data_dir: Path | None,
    identities: Path | None,
    gallery: Path | None,
    top: int,
    threshold: float | None,
    repeats: int,
    seed: int,
    output: Path | None,
    report: Path | None,
    landmarks: Path | None,
    detect: bool,
    insightface_crops: bool,
    flip: bool,
    form: str,
    quiet: bool,
) -> None:
    """Tell whether two pictures show one person, or measure it.

    MODEL is a run folder or a model file (.onnx, .tflite, .xml, .keras). IMAGES are two pictures; none with --pairs or
    --identities, and any number with --gallery.
    """
    _one_at_most(pairs=pairs, identities=identities, gallery=gallery)
    if pairs or identities:
        if images:
            raise click.UsageError(f"--pairs and --identities name the pictures. Received besides: {images[0]}")
    elif gallery:
        if not images:
            raise click.UsageError("Name at least one picture to look for in the gallery.")
    elif len(images) != 2:
        raise click.UsageError(f"Name two pictures, or --pairs, --identities or --gallery. Received: {len(images)}")
    if not pairs and (output or report):
        raise click.UsageError("--output and --report go with --pairs.")
    if data_dir and not ((pairs and pairs.suffix != ".bin") or (identities and not identities.is_dir())):
        raise click.UsageError("--data-dir goes with a list in --pairs or --identities; a .bin or a folder needs none.")
    if threshold is not None and not math.isfinite(threshold):
        raise click.UsageError(f"--threshold must be a number. Received: {threshold}")
    if threshold is not None and (pairs or identities):
        raise click.UsageError("--threshold goes with two pictures, or with --gallery.")
    if not gallery and _is_given("top"):
        raise click.UsageError("--top goes with --gallery.")
    if not identities and (_is_given("repeats") or _is_given("seed")):
        raise click.UsageError("--repeats and --seed go with --identities.")

    options = {"landmarks": landmark_source(landmarks, detect, insightface_crops), "flip": flip}

    predictor = _load(model, None if pairs or identities else images)

    from lightcnn.progress import ProgressBar

    with ProgressBar(quiet) as bar:
        if pairs:
            _verify_pairs(predictor, model, pairs, data_dir, output, report, form, bar, options)
        elif identities:
            _verify_identities(predictor, identities, data_dir, repeats, seed, form, bar, options)
        elif gallery:
            _verify_gallery(predictor, gallery, list(images), top, threshold, form, bar, options)
        else:
            _verify_two(predictor, images, threshold, form, bar, options)


def _verify_two(
    predictor: Any, images: tuple[str, ...], threshold: float | None, form: str, bar: Any, options: dict[str, Any]
) -> None:
    from lightcnn.verification import verify as verify_two

    row = verify_two(predictor, *images, threshold=threshold, **options)
    tell_changes(bar.tell, row.pop("changes"))
    bar.close()
    if form == "json":
        print_json(row)
        return
    answer = {True: "yes", False: "no", None: "no threshold"}[row["same"]]
    limit = "-" if row["threshold"] is None else f"{row['threshold']:.4f}"
    print_table(("cosine", "threshold", "same person"), [(f"{row['score']:.4f}", limit, answer)])
    if row["threshold"] is None:
        bar.tell("The model file has no threshold. Measure one with --pairs, and pass it with --threshold.")


def _verify_pairs(
    predictor: Any,
    model: Path,
    source: Path,
    data_dir: Path | None,
    output: Path | None,
    report: Path | None,
    form: str,
    bar: Any,
    options: dict[str, Any],
) -> None:
    from lightcnn.datasets import read_insightface_bin, read_pairs
    from lightcnn.verification import score_pairs, verification_figures, write_scores, write_verification_report
    from lightcnn.verification.page import figure_rows

    pairs = read_insightface_bin(source) if source.suffix == ".bin" else read_pairs(source, data_dir)
    changes = Counter[str]()
    scores = score_pairs(predictor, pairs, data_dir=data_dir, changes=changes, track=bar.track, **options)
    tell_changes(bar.tell, changes)
    figures = verification_figures(scores, pairs.same, pairs.folds)
    bar.close()
    if form == "json":
        print_json(figures)
    else:
        print_table((source.name, ""), figure_rows(figures))
        for note in figures["notes"]:
            bar.say(f"Note: {note}")
    if output:
        write_scores(output, pairs, scores)
        bar.tell(f"Scores: {output.absolute()}")
    if report:
        write_verification_report(report, f"{model.name} on {source.name}", pairs, scores, figures, predictor.threshold)
        bar.tell(f"Report: {report.absolute()}")


def _verify_identities(
    predictor: Any,
    source: Path,
    data_dir: Path | None,
    repeats: int,
    seed: int,
    form: str,
    bar: Any,
    options: dict[str, Any],
) -> None:
    from lightcnn.datasets import read_identities
    from lightcnn.errors import BadFilesError
    from lightcnn.verification import embed as embed_files
    from lightcnn.verification import open_set_figures

    faces = read_identities(source, data_dir)
    names = [faces.identities[label] for label in faces.labels]
    root = source if source.is_dir() else data_dir
    gallery = embed_files(predictor, faces.files, names, data_dir=root, track=bar.track, **options)
    if gallery.failures:
        failures = [(Path(file), cause) for file, cause in gallery.failures]
        raise BadFilesError(failures, "A figure without them would be another figure: mend or remove them.")
    tell_changes(bar.tell, gallery.changes)
    figures = open_set_figures(gallery.embeddings, gallery.identities, repeats=repeats, seed=seed)
    bar.close()
    if form == "json":
        print_json(figures)
        return
    titles = {
        "rank_1": "rank-1, closed set",
        "dir_at_far": f"DIR at FAR {100 * figures['dir_far']:g} %, rank 1",
        "vr_at_far": f"VR at FAR {100 * figures['vr_far']:g} %",
    }
    rows = [
        (title, *(["-"] * 3 if figures[key] is None else (f"{value:.2%}" for value in figures[key].values())))
        for key, title in titles.items()
    ]
    counts = f"{figures['pictures']:,} pictures of {figures['identities']:,} people, {figures['repeats']} trials"
    print_table((counts, "mean", "std", "mean - std"), rows)
    for note in figures["notes"]:
        bar.say(f"Note: {note}")


def _verify_gallery(
    predictor: Any,
    path: Path,
    images: list[str],
    top: int,
    threshold: float | None,
    form: str,
    bar: Any,
    options: dict[str, Any],
) -> None:
    from lightcnn.errors import DataError
    from lightcnn.verification import embed as embed_files
    from lightcnn.verification import load_gallery, rank_identities

    gallery = load_gallery(path)
    if gallery.model != predictor.digest:
        raise DataError(
            f"{path} was made by another model, whose embeddings say nothing to this one. Embed its pictures again. "
            f"Expected: {predictor.digest[:12]}... Received: {gallery.model[:12]}..."
        )
    if options["flip"] != gallery.flip:
        bar.tell(f"{path} was made {'with' if gallery.flip else 'without'} --flip, so the pictures are treated so too.")
    asked = embed_files(predictor, images, track=bar.track, **{**options, "flip": gallery.flip})
    for file, cause in asked.failures:
        click.echo(f"{file}: {cause}", err=True)
    tell_changes(bar.tell, asked.changes)
    found = rank_identities(gallery, asked.embeddings, top) if len(asked) else []
    if threshold is not None:  # as for two pictures, and a person may be called "nobody"
        for person in chain.from_iterable(found):
            person["same"] = bool(person["score"] >= threshold)
    bar.close()
    if form == "json":
        print_json([{"file": str(file), "top": people} for file, people in zip(asked.files, found, strict=True)])
    else:
        rows = []
        for file, people in zip(asked.files, found, strict=True):
            for rank, person in enumerate(people, 1):
                who = (person["identity"] or "-") if person.get("same", True) else "nobody"
                rows.append((file, rank, who, f"{person['score']:.4f}", person["file"]))
        print_table(("file", "rank", "identity", "cosine", "most alike picture"), rows)
    if asked.failures:
        click.echo(f"{len(asked.failures)} of {len(images)} files could not be read.", err=True)
        sys.exit(1)


def _load(model: Path, names: Sequence[str] | None) -> Any:
    """Opens a model for faces."""
    from lightcnn.errors import ModelFileError
    from lightcnn.inference.faces import FacePredictor

    predictor = load_predictor(model, names)
    if not isinstance(predictor, FacePredictor):
        task = predictor.metadata.get("task")
        raise ModelFileError(f"{model} is no model for faces. Use `lightcnn predict`. Received: a model for {task}")
    return predictor


def landmark_source(landmarks: Path | None, detect: bool, insightface_crops: bool) -> Any:
    """Returns where landmarks come from: a list, a function from a picture, or None."""
    _one_at_most(landmarks=landmarks, detect=detect, insightface_crops=insightface_crops)
    if insightface_crops:
        from lightcnn.inference.faces import insightface_landmarks

        return insightface_landmarks
    return _largest_face() if detect else landmarks


def _largest_face() -> Callable[[Any], Any]:
    from lightcnn.detection import detect_landmarks
    from lightcnn.errors import DataError

    def find(picture: Any) -> Any:
        faces = detect_landmarks(picture)
        if not len(faces):
            raise DataError("no face was found. Name its landmarks with --landmarks, or leave the picture out")
        return faces[0]

    return find


def _is_given(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def _one_at_most(**options: Any) -> None:
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} exclude each other.")
