"""One picture or audio file -> one array, safely."""

from lightcnn.decoding.audio import (
    AUDIO_SUFFIXES,
    AudioInfo,
    audio_blocks,
    audio_info,
    decode_audio,
    decode_piece,
    fit_length,
)
from lightcnn.decoding.folders import files_below, list_files
from lightcnn.decoding.images import (
    PICTURE_SUFFIXES,
    Picture,
    decode_picture,
    find_pictures,
    fitted_picture,
    ignore_picture_warnings,
    is_grey,
    list_pictures,
    open_picture,
)

__all__ = [
    "AUDIO_SUFFIXES",
    "AudioInfo",
    "PICTURE_SUFFIXES",
    "Picture",
    "audio_blocks",
    "audio_info",
    "decode_audio",
    "decode_picture",
    "decode_piece",
    "files_below",
    "find_pictures",
    "fit_length",
    "fitted_picture",
    "ignore_picture_warnings",
    "is_grey",
    "list_files",
    "list_pictures",
    "open_picture",
]
