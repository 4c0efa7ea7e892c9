"""Other people's checkpoints -> our models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightcnn.errors import ModelFileError
from lightcnn.files import file_digest
from lightcnn.importing.array_files import read_npz_checkpoint, read_safetensors_checkpoint
from lightcnn.importing.face import is_light_cnn, light_cnn
from lightcnn.importing.speech import is_nii_lcnn_lstm, nii_lcnn_lstm
from lightcnn.importing.torch_files import read_torch_checkpoint
from lightcnn.models import save_model

__all__ = ["convert", "read_npz_checkpoint", "read_safetensors_checkpoint", "read_torch_checkpoint"]

# how a file's name ends -> how it is read; whatever else a file is called, torch.save may have made it
_READERS = {".npz": read_npz_checkpoint, ".safetensors": read_safetensors_checkpoint}
# what it is -> (how to tell by the weights, how to make the model and its metadata out of them, which options it takes)
_KNOWN: dict[str, tuple[Any, Any, tuple[str, ...]]] = {
    "NII's LFCC-LCNN-LSTM with a sigmoid": (is_nii_lcnn_lstm, nii_lcnn_lstm, ()),
    "Wu et al.'s Light CNN-4, -9, -29, -29v2 and v4": (is_light_cnn, light_cnn, ("keep_classifier",)),
}


def convert(checkpoint: Path | str, output: Path | str, *, keep_classifier: bool = True) -> dict[str, Any]:
    """Converts other people's weights to a `.keras` file of this package.

    Neither PyTorch nor any code in the file is needed or run. Which network it is, its weights' names tell. Known are
    NII's LFCC-LCNN-LSTM with a sigmoid (voice anti-spoofing), which becomes a model from samples at 16,000 Hz to
    scores, and Wu et al.'s Light CNN-4, -9, -29, -29v2 and v4 (faces), which become models from pixels from 0 to 255
    to embeddings; these are checked against the checkpoint's own arithmetic.

    Args:
        checkpoint: Path of the file that `torch.save` made, or of an `.npz` or `.safetensors` file with the same names.
        output: Path of the `.keras` file; an existing one is replaced once the new one is whole.
        keep_classifier: Whether a Light CNN keeps the classifier of its training's identities, if the checkpoint has
            one. NII's network has none to drop.

    Returns:
        What stands in the file beside the model, a dictionary: the task, what goes in and comes out, the source, and
        the checkpoint's SHA-256. For a Light CNN `"parity"` is the largest difference from the checkpoint's embedding,
        as a fraction of the largest value.

    Raises:
        ModelFileError: If the checkpoint is missing, damaged, unsafe, incomplete or of an unknown network, or if the
            model does not agree with it. No file is written then.
        StorageError: If the output cannot be written.
        ValueError: If `output` does not end in `.keras`.

    Example:
    >>> lightcnn.importing.convert("trained_network.pt", "nii.keras")["task"]
    'voice anti-spoofing'
    """
    checkpoint, output = Path(checkpoint), Path(output)
    if output.suffix != ".keras":  # before the work
        raise ValueError(f"A model file ends in .keras. Received: output={output}")
    weights = _READERS.get(checkpoint.suffix.lower(), read_torch_checkpoint)(checkpoint)
    options = {"keep_classifier": keep_classifier}
    for is_this, build, taken in _KNOWN.values():
        if is_this(weights):
            model, metadata = build(weights, **{name: options[name] for name in taken})
            metadata["checkpoint"] = {"file": checkpoint.name, "sha256": file_digest(checkpoint)}
            save_model(model, output, metadata)
            return dict(metadata)
    names = ", ".join(list(weights)[:5])
    raise ModelFileError(
        f"{checkpoint} holds weights of a network that is not known. Known: {', '.join(_KNOWN)}. "
        f"Received: {len(weights)} weights: {names}{', ...' if len(weights) > 5 else ''}"
    )
