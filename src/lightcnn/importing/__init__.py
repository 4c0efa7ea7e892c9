"""Other people's checkpoints -> our models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightcnn.errors import ModelFileError
from lightcnn.files import file_digest
from lightcnn.importing.speech import is_nii_lcnn_lstm, nii_lcnn_lstm
from lightcnn.importing.torch_files import read_torch_checkpoint
from lightcnn.models import save_model

__all__ = ["convert", "read_torch_checkpoint"]

# what it is -> (how to tell by the weights, how to make the model and its metadata out of them)
_KNOWN = {"NII's LFCC-LCNN-LSTM with a sigmoid": (is_nii_lcnn_lstm, nii_lcnn_lstm)}


def convert(checkpoint: Path | str, output: Path | str) -> dict[str, Any]:
    """Converts other people's PyTorch checkpoint to a `.keras` file of this package.

    Neither PyTorch nor any code in the file is needed or run. Which network it is, its weights' names tell. Known is
    NII's LFCC-LCNN-LSTM with a sigmoid (voice anti-spoofing); it becomes a model from samples at 16,000 Hz to scores.

    Args:
        checkpoint: Path of the file that `torch.save` made.
        output: Path of the `.keras` file; an existing one is replaced once the new one is whole.

    Returns:
        What stands in the file beside the model, a dictionary: the task, the meaning of the score, the source, and
        the checkpoint's SHA-256.

    Raises:
        ModelFileError: If the checkpoint is missing, damaged, unsafe or of an unknown network.
        StorageError: If the output cannot be written.
        ValueError: If `output` does not end in `.keras`.

    Example:
    >>> lightcnn.importing.convert("trained_network.pt", "nii.keras")["task"]
    'voice anti-spoofing'
    """
    checkpoint, output = Path(checkpoint), Path(output)
    if output.suffix != ".keras":  # before the work
        raise ValueError(f"A model file ends in .keras. Received: output={output}")
    weights = read_torch_checkpoint(checkpoint)
    for is_this, build in _KNOWN.values():
        if is_this(weights):
            model, metadata = build(weights)
            metadata["checkpoint"] = {"file": checkpoint.name, "sha256": file_digest(checkpoint)}
            save_model(model, output, metadata)
            return dict(metadata)
    names = ", ".join(list(weights)[:5])
    raise ModelFileError(
        f"{checkpoint} holds weights of a network that is not known. Known: {', '.join(_KNOWN)}. "
        f"Received: {len(weights)} weights: {names}{', ...' if len(weights) > 5 else ''}"
    )
