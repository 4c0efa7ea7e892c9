"""Networks that tell bona fide speech from spoofed, on time-frequency images or, with a front end, on samples.

An image has time first: `(frames, features)`. Every network ends in a layer `"embedding"`, and in a layer `"head"`
that `lightcnn.layers.new_head` describes. Class 1 is bona fide speech and class 0 is spoofed; a score is higher for
bona fide speech.
"""

from lightcnn.models.speech.nii import lcnn_attention, lcnn_fixed, lcnn_lstm_sum
from lightcnn.models.speech.samples import from_samples
from lightcnn.models.speech.stc import stc2017, stc2019

__all__ = ["from_samples", "lcnn_attention", "lcnn_fixed", "lcnn_lstm_sum", "stc2017", "stc2019"]
