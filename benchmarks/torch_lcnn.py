"""The article's LCNN in PyTorch, which the scripts compare speed with."""

import torch
from torch import nn

from lightcnn.models.image import STC_2019_TRUNK


class MFM(nn.Module):
    def forward(self, x):
        return torch.maximum(*x.chunk(2, dim=1))


def torch_lcnn(side, channels):
    """Returns the network from `(batch, channels, side, side)` to logits, channels-last in memory."""
    layers, before = [], channels
    for size, after, pooled, normalized in STC_2019_TRUNK:
        layers += [nn.Conv2d(before, 2 * after, size, padding=size // 2), MFM()]
        layers += [nn.MaxPool2d(2)] * pooled + [nn.BatchNorm2d(after)] * normalized
        before = after
    layers += [nn.Flatten(), nn.Linear(before * (side // 16) ** 2, 160), MFM(), nn.BatchNorm1d(80), nn.Dropout(0.75)]
    return nn.Sequential(*layers, nn.Linear(80, 10)).to(memory_format=torch.channels_last)
