"""The commands that take a user's own files."""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from lightcnn.cli.group import OUTPUT_FILE, PATH, common, main, named_files
from lightcnn.cli.tables import aligned, print_json, print_table, tell_changes
from lightcnn.errors import LightCNNError

__all__ = ["check", "convert", "load_predictor", "predict", "score"]

_FEW = 64  # files that are looked at one batch at a time


@main.command()
@click.argument("model", type=PATH)
@named_files
@click.option("--windows", is_flag=True, help="Score speech window by window.")
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--output", type=OUTPUT_FILE, help="Write to this file instead of stdout.")
@common
def predict(
    model: Path,
    names: list[str],
    windows: bool,
    form: str,
    output: Path | None,
    quiet: bool,
) -> None:
    """Name what is in pictures, or tell bona fide from spoofed speech.

    MODEL is a run folder or a model file (.onnx, .tflite, .xml, .keras), FILES are pictures or recordings, or
    folders of them.
    """
    from lightcnn.progress import ProgressBar
    from lightcnn.runs import FACES, IMAGES, SPEECH

    predictor = load_predictor(model, names)
    task = predictor.metadata.get("task", IMAGES)
    if task == FACES:
        raise click.UsageError(
            f"{model} is a model for faces: it gives embeddings, no labels. Use `lightcnn verify {model} A B`, or "
            f"`lightcnn embed {model} FILES... --output FILE.npz`."
        )
    if windows and task != SPEECH:
        raise click.UsageError(f"--windows is for speech. Received: a model for {task}")
    found, failures = _find_files(predictor, names)
    looked = _windows(predictor, found) if windows else predictor.predict(found)
    total, changes = len(found) + failures, Counter[str]()

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal failures
        with ProgressBar(quiet) as bar:
            for row in bar.track(looked, None if windows else len(found), "Looking"):
                if "error" in row:
                    failures += 1
                    click.echo(f"{row['file']}: {row['error']}", err=True)
                    continue
                changes.update([row.pop("changes", "")])
                yield row
            tell_changes(bar.tell, changes)

    _write(_FORMATS[form]("windows" if windows else task, rows()), output)
    if failures:
        click.echo(f"{failures} of {total} files could not be read.", err=True)
        sys.exit(1)


def load_predictor(model: Path, names: Sequence[str] | None) -> Any:
    """Opens a model for files and folders, None for very many: of a few the first answer comes soon, else the last."""
    from lightcnn.inference import Predictor
    from lightcnn.runtimes import num_processors

    few = names is not None and len(names) <= _FEW and not any(map(os.path.isdir, names))
    return Predictor.load(model, 1 if few else num_processors())


def _find_files(predictor: Any, names: list[str]) -> tuple[list[str], int]:
    """Lists the files in folders, and other names as they were given; counts the folders that hold none."""
    found, failures = [], 0
    for name in names:
        if not os.path.isdir(name):  # noqa: PTH112  no error for a name that is too long
            found.append(name)
            continue
        try:
            found += [f"{name.rstrip('/')}/{path.relative_to(name)}" for path in predictor.files_in(Path(name))]
        except LightCNNError as error:
            failures += 1
            click.echo(str(error), err=True)
    return found, failures


def _windows(predictor: Any, files: list[str]) -> Iterator[dict[str, Any]]:
    for file in files:
        try:
            for window in predictor.windows(file):
                yield {"file": file, **window}
        except LightCNNError as error:
            yield {"file": file, "error": str(error).removeprefix(f"{Path(file)}: ")}


def _write(text: Iterable[str], output: Path | None) -> None:
    """Writes text that comes in pieces, whole or not at all; the terminal has the progress until all is there."""
    if output is not None:
        from lightcnn.files import atomic_write

        with atomic_write(output) as file:
            file.writelines(piece.encode(errors="backslashreplace") for piece in text)
        return
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogatepass", newline="") as held:
        held.writelines(text)
        held.seek(0)
        for line in held:
            click.echo(line, nl=False)


# The formats take rows one by one, so that memory does not grow by what is said of every file.


def _as_json(kind: str, rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    import json

    before = "[\n"
    for row in rows:
        yield before + "  " + json.dumps(row, indent=2, ensure_ascii=False).replace("\n", "\n  ")
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


# what a row is -> the columns of its CSV, with their formats
_CSV = {
    "image classification": {"file": "", "label": "", "probability": ".6g"},
    "voice anti-spoofing": {"file": "", "score": ".9g", "llr": ".6g", "label": "", "threshold": ".6g"},
    "windows": {"file": "", "start_s": ".6g", "end_s": ".6g", "score": ".9g"},
}


def _as_csv(kind: str, rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    from lightcnn.files import csv_line

    yield csv_line(_CSV[kind])
    for row in rows:
        yield csv_line("" if row[key] is None else f"{row[key]:{form}}" for key, form in _CSV[kind].items())


def _as_table(kind: str, rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    cells: list[tuple[str, ...]] = []
    if kind == "windows":
        head: tuple[str, ...] = ("file", "from, s", "to, s", "score (higher = more bona fide)")
        cells = [(r["file"], f"{r['start_s']:.2f}", f"{r['end_s']:.2f}", f"{r['score']:.3f}") for r in rows]
    elif kind == "voice anti-spoofing":
        head = ("file", "label", "score (higher = more bona fide)", "LLR", "threshold")
        for r in rows:
            llr = "" if r["llr"] is None else f"{r['llr']:.2f}"
            cells.append((r["file"], r["label"], f"{r['score']:.3f}", llr, f"{r['threshold']:.3f}"))
    else:
        head = ("file", "label", "probability", "next")
        for r in rows:
            others = ", ".join(f"{other['label']} {other['probability']:.1%}" for other in r["top"][1:3])
            cells.append((r["file"], r["label"], f"{r['probability']:.1%}", others))
    yield aligned(head, cells)


_FORMATS = {"table": _as_table, "csv": _as_csv, "json": _as_json}


@main.command()
@click.argument("scores", type=PATH)
@click.option("--key", type=PATH, help="Which trial is bona fide and which is spoofed, if SCORES doesn't say.")
@click.option("--asv-scores", type=PATH, help="Scores of a speaker verification system, for the t-DCF.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@common
def score(scores: Path, key: Path | None, asv_scores: Path | None, form: str, quiet: bool) -> None:
    """Measure a score file of voice anti-spoofing: EER, t-DCF, DCF, Cllr.

    SCORES has a trial a line, its score last; higher is more bona fide. Text or gzip.
    """
    from lightcnn.scoring import score as score_file
    from lightcnn.scoring import score_rows

    def say(message: str) -> None:
        click.echo(message, err=True)

    figures = score_file(scores, key, asv_scores, warn=say, **({} if quiet else {"note": say}))
    if form == "json":
        print_json(figures)
    else:
        print_table(("metric", "value", ""), score_rows(figures))


@main.command()
@click.argument("folder", type=PATH)
@click.option("--corpus", help="Its name, if the folder holds several.")
@click.option("--keys", type=PATH, help="The key of ASVspoof 2021 or 2017 v1; bona fide recordings of WaveFake, MLAAD.")
@click.option("--decode", is_flag=True, help="Decode every recording, not only its header.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@common
def check(folder: Path, corpus: str | None, keys: Path | None, decode: bool, form: str, quiet: bool) -> None:
    """Check a corpus of speech before training on it.

    FOLDER is the corpus, the folder above it, or a CSV.
    """
    from dataclasses import asdict

    from lightcnn.datasets import check as check_corpus
    from lightcnn.progress import ProgressBar

    with ProgressBar(quiet) as bar:
        report = check_corpus(folder, corpus, keys=keys, decode=decode, track=bar.track)
    if form == "json":
        print_json(asdict(report))
    else:
        rows = []
        for name, facts in report.splits.items():
            rates = ", ".join(f"{rate} Hz" for rate in facts["sampling_rates"])
            hours = "" if facts["duration_s"] is None else f"{facts['duration_s']['total'] / 3600:.2f}"
            counts = (facts["bona_fide"], facts["spoofed"], facts["speakers"], len(facts["attacks"]))
            rows.append((name, *(f"{count:,}" for count in counts), hours, rates))
        click.echo(f"{report.title}: {report.source}")
        print_table(("split", "bona fide", "spoofed", "speakers", "attacks", "hours", "rates"), rows)
        for note in report.notes:
            click.echo(f"Note: {note}")
    for problem in report.problems:
        click.echo(f"Problem: {problem}", err=True)
    if report.problems:
        sys.exit(1)


@main.command()
@click.argument("checkpoint", type=PATH)
@click.option("--output", type=OUTPUT_FILE, required=True, help="The .keras file to write.")
@click.option("--drop-classifier", is_flag=True, help="Faces: leave the classifier of the training's identities out.")
@common
def convert(checkpoint: Path, output: Path, drop_classifier: bool, quiet: bool) -> None:
    """Convert other people's weights to a .keras file.

    CHECKPOINT is the PyTorch file of NII's LFCC-LCNN-LSTM or of a released Light CNN-4, -9, -29, -29v2 or v4 for faces,
    or an .npz or .safetensors file with the same names. No code in it is run.
    """
    if output.suffix != ".keras":
        raise click.BadParameter(f"models are written as .keras, received {output}.", param_hint="--output")

    from lightcnn.backends import import_backend

    import_backend()
    from lightcnn.importing import convert as convert_checkpoint

    facts = convert_checkpoint(checkpoint, output, keep_classifier=not drop_classifier)
    rows = [(key.replace("_", " "), value) for key, value in facts.items() if isinstance(value, str | int)]
    if "parity" in facts:
        rows.append(("difference from the checkpoint's embedding", f"{facts['parity']:.1e} of the largest value"))
    print_table((str(output), ""), rows)
