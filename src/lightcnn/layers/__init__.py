"""The layers that every network here is built from: Max-Feature-Map, masks and pooling of frames, and heads."""

from lightcnn.layers.heads import HEADS, ASoftmaxHead, BonaFideScore, CosineHead, new_head, score_of
from lightcnn.layers.masking import FeatureMask, FrameMask, MaskedBatchNormalization, RepeatShort, ZeroPadding
from lightcnn.layers.mfm import MaxFeatureMap, Maxout, MFMConv2D, MFMDense, ResidualMFMBlock, fresh_initializer
from lightcnn.layers.normalization import BatchNormalization
from lightcnn.layers.pooling import AttentivePooling, FramePooling

__all__ = [
    "HEADS",
    "ASoftmaxHead",
    "AttentivePooling",
    "BatchNormalization",
    "BonaFideScore",
    "CosineHead",
    "FeatureMask",
    "FrameMask",
    "FramePooling",
    "MFMConv2D",
    "MFMDense",
    "MaskedBatchNormalization",
    "MaxFeatureMap",
    "Maxout",
    "RepeatShort",
    "ResidualMFMBlock",
    "ZeroPadding",
    "fresh_initializer",
    "new_head",
    "score_of",
]
