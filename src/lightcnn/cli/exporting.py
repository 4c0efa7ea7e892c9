"""The command that makes an artifact of a run."""

from __future__ import annotations

from pathlib import Path

import click

from lightcnn.cli.group import OUTPUT, PATH, common, main
from lightcnn.cli.tables import print_table

__all__ = ["export"]


@main.command()
@click.argument("run", type=PATH)
@click.option("--format", "form", type=click.Choice(["onnx", "litert", "openvino"]), default="onnx", show_default=True)
@click.option("--quantize", type=click.Choice(["int8", "float16", "bfloat16"]), help="Fewer bits a number.")
@click.option("--output", type=OUTPUT, help="The file to write; for OpenVINO a folder.  [default: beside the model]")
@click.option("--data-dir", type=PATH, help="Where the data are.  [default: where they were in training]")
@common
def export(run: Path, form: str, quantize: str | None, output: Path | None, data_dir: Path | None, quiet: bool) -> None:
    """Write a model as a file that runs without Keras.

    RUN is a run folder or a .keras file. The file is compared with Keras on validation data of the run, and written
    only if it gives the same.
    """
    from lightcnn.backends import import_backend
    from lightcnn.runtimes import check_precision

    check_precision(form, quantize)  # before the seconds that a backend takes
    import_backend()
    from lightcnn.exporting import export as export_model

    written = export_model(run, output, form, quantize, data_dir=data_dir)
    proof = written.proof
    click.echo(written.path)
    rows = [
        ("compared on", proof.examples),
        ("largest difference", f"{proof.difference:.1e} of the largest value"),
        ("equal decisions", f"{proof.agreement:.2%} ({1 - proof.clear:.1%} are too close to count)"),
        ("size", f"{written.size / 1e6:.2f} MB (Keras: {written.source_size / 1e6:.2f} MB)"),
        ("time for one", f"{proof.latency_ms:.2f} ms (Keras: {proof.keras_latency_ms:.2f} ms)"),
    ]
    if not quiet:
        print_table((form if quantize is None else f"{form}, {quantize}", ""), rows)
