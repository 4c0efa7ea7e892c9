"""What the networks share: their inputs, their convolutions, how they end."""

import keras

from lightcnn.layers import (
    BatchNormalization,
    FrameMask,
    MaskedBatchNormalization,
    MFMConv2D,
    ZeroPadding,
    fresh_initializer,
    new_head,
    score_of,
)

__all__ = ["NORM", "NORM_WITHOUT_SCALE", "ended", "fixed_image", "trunk"]

_OUTPUTS = ("raw", "score")
# PyTorch's defaults, in Keras' words; the published results of these networks are of PyTorch implementations.
NORM = {"momentum": 0.9, "epsilon": 1e-5}
NORM_WITHOUT_SCALE = {**NORM, "scale": False, "center": False}


def fixed_image(network, input_shape, smallest):
    """Returns the input `(batch, frames, features)` and the image `(batch, frames, features, 1)`."""
    shape = tuple(input_shape)
    sizes = shape[:-1] if len(shape) == 3 and shape[-1] == 1 else shape
    if len(sizes) != 2 or any(not isinstance(size, int) for size in sizes) or min(sizes) < smallest:
        raise ValueError(
            f"`input_shape` of {network} must be (frames, features) or (frames, features, 1), both at least "
            f"{smallest}, since its poolings must leave one. Received: input_shape={input_shape}"
        )
    inputs = keras.Input(sizes, name="features")
    return inputs, keras.layers.Reshape((*sizes, 1), name="image")(inputs)


def trunk(x, table, kernel_initializer, norm, lengths=None):
    """Returns what the convolutions of a table make of an image; with `lengths`, its mask too."""
    stride, mask = 1, None
    for index, (kernel_size, filters, pooled, normalized) in enumerate(table, start=1):
        if lengths is not None:
            if mask is None:
                mask = FrameMask(stride, name=f"mask_{index}")(x, lengths)
            if kernel_size > 1:
                x = ZeroPadding(name=f"zero_{index}")(x, mask)
        initializer = fresh_initializer(kernel_initializer)
        x = MFMConv2D(filters, kernel_size, kernel_initializer=initializer, name=f"conv_{index}")(x)
        if pooled:
            x = keras.layers.MaxPooling2D(2, data_format="channels_last", name=f"pool_{index}")(x)
            stride *= 2
            mask = None if lengths is None else FrameMask(stride, name=f"mask_{index}_pooled")(x, lengths)
        if normalized:
            if mask is None:
                x = BatchNormalization(**norm, name=f"norm_{index}")(x)
            else:
                x = MaskedBatchNormalization(**norm, name=f"norm_{index}")(x, mask)
    return x if lengths is None else (x, mask)


def ended(inputs, x, head, output, name):
    """Returns the model from `inputs` through the embedding `x` to what the head gives, or to scores."""
    if output not in _OUTPUTS:
        raise ValueError(f"`output` must be one of {', '.join(map(repr, _OUTPUTS))}. Received: output={output!r}")
    x = new_head(head)(x)
    return keras.Model(inputs, score_of(head, x) if output == "score" else x, name=name)
