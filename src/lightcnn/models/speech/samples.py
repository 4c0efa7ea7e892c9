"""One model from samples to scores."""

import keras

__all__ = ["from_samples"]


def from_samples(front_end, network, name=None):
    """Puts a front end before a network, so that one model goes from samples to scores.

    Args:
        front_end: A layer of `lightcnn.frontends`.
        network: A network of this module. Its layers are shared with the result, not copied.
        name: Name of the model, or None for the network's.

    Returns:
        A `keras.Model` with the network's output. For a network of fixed size it has one input, `"samples"`,
        `(batch, num_samples)`, with the smallest `num_samples` that gives the network's number of frames:
        `model.input_shape[1]`. For a network of any length it has two, `"samples"`, `(batch, samples)`, and
        `"lengths"`, `(batch,)`, int32, the samples that are not padding.

    Raises:
        ValueError: If the front end gives other features than the network takes, or never so many frames.

    Example:
    >>> model = lightcnn.models.from_samples(lightcnn.frontends.lfcc_nii(), lightcnn.models.lcnn_lstm_sum())
    >>> model([np.zeros((2, 64000)), np.array([64000, 16000])]).shape
    TensorShape([2, 1])
    """
    frames, num_features = network.inputs[0].shape[1:3]
    samples = keras.Input((None if frames is None else _num_samples(front_end, frames),), name="samples")
    if frames is None:
        lengths = keras.Input((), dtype="int32", name="lengths")
        inputs, features = [samples, lengths], front_end(samples, lengths)
        network_inputs = [features, front_end.num_frames(lengths)]
    else:
        inputs, features = samples, front_end(samples)
        network_inputs = features
    if features.shape[-1] != num_features:
        raise ValueError(
            f"The network {network.name!r} takes {num_features} features a frame, and the front end "
            f"{front_end.name!r} gives {features.shape[-1]}. Build the network for the front end's number."
        )
    # Not `network(...)`: called in this way its layers become the model's own, so `get_layer` and `freeze` find them.
    return keras.Model(inputs, network.call(network_inputs), name=name or network.name)


def _num_samples(front_end, frames):
    num_samples = front_end.samples_for(frames)
    if front_end.num_frames(num_samples) != frames:
        raise ValueError(
            f"The network takes {frames} frames, and the front end {front_end.name!r} gives "
            f"{front_end.num_frames(num_samples)} for {num_samples} samples and fewer for one sample less. "
            "Build the network for another number of frames."
        )
    return num_samples
