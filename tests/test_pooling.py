"""Masks, repetition and pooling of frames: padding leaves no trace, and the numbers are an independent statement's."""

import keras
import numpy as np
import pytest
from keras import ops
from layer_contract import check_layer, example, gradient

from lightcnn.layers import (
    AttentivePooling,
    FrameMask,
    FramePooling,
    MaskedBatchNormalization,
    RepeatShort,
    ZeroPadding,
)
from lightcnn.models import load_model, save_model

MASK = np.array([[True, True, True], [True, False, False]])


def as_numpy(values):
    return ops.convert_to_numpy(values)


def attentive_pooling(frames, kernel):
    """States attentive pooling of one file by PyTorch's own functions in float64, without the noise."""
    torch = pytest.importorskip("torch")
    frames, kernel = torch.tensor(frames, dtype=torch.float64), torch.tensor(kernel, dtype=torch.float64)
    weighted = frames * torch.nn.functional.softmax(torch.tanh(frames @ kernel), dim=0)
    return torch.cat([weighted.sum(0), weighted.std(0)]).numpy()


@pytest.mark.parametrize("mode", ["mean", "sum"])
def test_frame_pooling_keeps_the_contract(tmp_path, mode):
    check_layer(FramePooling, {"mode": mode}, [(5, 6), (1, 6)], tmp_path)


@pytest.mark.parametrize("init_kwargs", [{}, {"kernel_initializer": keras.initializers.Constant(0.5)}])
def test_attentive_pooling_keeps_the_contract(tmp_path, init_kwargs):
    check_layer(AttentivePooling, init_kwargs, [(5, 6), (2, 6)], tmp_path)


@pytest.mark.parametrize(("mode", "expected"), [("mean", [[3.0, 4.0], [1.0, 2.0]]), ("sum", [[9.0, 12.0], [1.0, 2.0]])])
def test_frame_pooling_leaves_out_what_is_masked(mode, expected):
    frames = np.array([[[1, 2], [3, 4], [5, 6]], [[1, 2], [np.nan, 7], [np.inf, 8]]], "float32")
    np.testing.assert_array_equal(as_numpy(FramePooling(mode)(frames, mask=MASK)), expected)


def test_a_file_without_frames_pools_to_zero():
    nothing = np.zeros((1, 3), bool)
    for layer in (FramePooling("mean"), FramePooling("sum"), AttentivePooling()):
        pooled = as_numpy(layer(example((3, 2), 1), mask=nothing))
        np.testing.assert_allclose(pooled, np.zeros_like(pooled), atol=2e-5)


def test_attentive_pooling_computes_what_pytorch_does():
    frames, layer = example((7, 6), seed=1), AttentivePooling()
    lengths = [7, 4, 2]
    mask = np.arange(7)[None] < np.array(lengths)[:, None]
    pooled = as_numpy(layer(np.where(mask[..., None], frames, np.nan).astype("float32"), mask=mask))
    kernel = layer.get_weights()[0]
    expected = [attentive_pooling(file[:length], kernel) for file, length in zip(frames, lengths, strict=True)]
    np.testing.assert_allclose(pooled, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(as_numpy(layer(frames[:1])), expected[:1], rtol=1e-5, atol=1e-6)


def test_the_deviation_of_one_frame_or_equal_frames_is_that_of_the_noise():
    layer = AttentivePooling()
    for frames in (example((1, 6), 1), np.ones((1, 4, 6), "float32")):
        np.testing.assert_allclose(as_numpy(layer(frames))[0, 6:], 1e-5, rtol=1e-4)
        upstream = np.ones((1, 12), "float32")
        assert np.isfinite(gradient(layer, frames, upstream)).all()


def test_attention_prefers_the_frames_along_its_kernel():
    layer = AttentivePooling(keras.initializers.Constant(1.0))
    frames = np.array([[[3.0], [-3.0]]], "float32")
    weight = 1 / (1 + np.exp(-2 * np.tanh(3.0)))
    np.testing.assert_allclose(as_numpy(layer(frames))[0, 0], 3 * weight - 3 * (1 - weight), rtol=1e-5)


@pytest.mark.parametrize(("stride", "expected"), [(1, [4, 3, 0]), (2, [2, 1, 0]), (3, [1, 1, 0])])
def test_frame_mask_counts_whole_strides(stride, expected):
    frames = 4 // stride
    mask = as_numpy(FrameMask(stride)(np.zeros((3, frames, 2), "float32"), np.array([4, 3, 0], "int32")))
    assert mask.dtype == bool
    assert mask.shape == (3, frames)
    np.testing.assert_array_equal(mask.sum(axis=1), expected)
    assert (np.sort(mask, axis=1)[:, ::-1] == mask).all()


def test_zero_padding_removes_even_what_is_not_a_number():
    values = np.full((2, 3, 2, 1), np.nan, "float32")
    values[MASK] = 5.0
    np.testing.assert_array_equal(
        as_numpy(ZeroPadding()(values, MASK)), np.where(MASK[:, :, None, None], [[5.0]] * 2, 0)
    )


def test_short_files_are_repeated_and_long_ones_kept():
    features = np.arange(1, 22, dtype="float32").reshape(3, 7, 1)
    repeated, lengths = RepeatShort(5)(features, np.array([7, 2, 0], "int32"))
    np.testing.assert_array_equal(as_numpy(lengths), [7, 5, 5])
    expected = [[1, 2, 3, 4, 5, 6, 7], [8, 9, 8, 9, 8, 13, 14], [15] * 5 + [20, 21]]
    np.testing.assert_array_equal(as_numpy(repeated)[..., 0], expected)


@pytest.mark.parametrize("frames", [1, 3, 5, 9])
def test_repeat_short_has_the_shape_that_it_announces(frames):
    layer, lengths = RepeatShort(5), np.array([frames, 1], "int32")
    repeated, valid = layer(example((frames, 2), 2), lengths)
    shapes = layer.compute_output_shape((2, frames, 2), (2,))
    assert shapes == (tuple(repeated.shape), tuple(valid.shape))
    np.testing.assert_array_equal(as_numpy(valid), [max(frames, 5), 5])
    assert layer.compute_output_shape((None, None, 2), (None,)) == ((None, None, 2), (None,))


def test_batch_norm_learns_its_statistics_without_the_padding():
    images = example((3, 4, 2), 2)
    padded = np.where(MASK[:, :, None, None], images, 1000).astype("float32")
    layer = MaskedBatchNormalization(momentum=0.0, epsilon=1e-5, scale=False, center=False)
    normalized = as_numpy(layer(padded, MASK, training=True))
    valid = images[MASK].reshape(-1, 2).astype("float64")
    mean, variance = (as_numpy(value) for value in layer.weights)
    np.testing.assert_allclose(mean, valid.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(variance, valid.var(axis=0), rtol=1e-5)
    scaled = (images - valid.mean(axis=0)) / np.sqrt(valid.var(axis=0) + 1e-5)
    np.testing.assert_allclose(normalized[MASK], scaled[MASK], rtol=1e-4, atol=1e-5)


def test_the_layers_are_saved_with_their_arguments_in_one_model(tmp_path):
    features, lengths = keras.Input((None, 4)), keras.Input((), dtype="int32")
    repeated, valid = RepeatShort(6, name="repeat")(features, lengths)
    mask = FrameMask(1, name="mask")(repeated, valid)
    zeroed = ZeroPadding(name="zero")(repeated, mask)
    image = keras.layers.Reshape((-1, 4, 1))(zeroed)
    normalized = MaskedBatchNormalization(epsilon=0.5, name="norm")(image, mask)
    frames = keras.layers.Reshape((-1, 4))(normalized)
    model = keras.Model([features, lengths], FramePooling("sum", name="pooling")(frames, mask=mask))
    inputs = [example((9, 4), 2), np.array([9, 2], "int32")]
    save_model(model, tmp_path / "model.keras", {})
    loaded = load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(as_numpy(loaded(inputs)), as_numpy(model(inputs)))
    assert loaded.get_layer("repeat").minimum == 6
    assert loaded.get_layer("mask").stride == 1
    assert loaded.get_layer("norm").epsilon == 0.5


def test_with_bfloat16_masks_stay_masks_and_pooling_adds_in_float32():
    frames = np.full((1, 1000, 1), 0.01, "float32")
    total = FramePooling("sum", dtype="mixed_bfloat16")(frames)
    assert keras.backend.standardize_dtype(total.dtype) == "bfloat16"
    np.testing.assert_allclose(float(as_numpy(ops.cast(total, "float32")).item()), 10.0, rtol=2**-7)
    mask = FrameMask(dtype="mixed_bfloat16")(frames, np.array([3], "int32"))
    assert as_numpy(mask).sum() == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FramePooling("max"), r"`mode` must be one of 'mean', 'sum'\. Received: mode='max'"),
        (lambda: FrameMask(0), r"`stride` must be a positive integer\. Received: stride=0"),
        (lambda: RepeatShort(1.5), r"`minimum` must be a positive integer\. Received: minimum=1.5"),
        (lambda: FramePooling()(np.zeros((2, 3))), r"needs inputs of shape \(batch, frames, channels\)"),
        (lambda: AttentivePooling()(keras.Input((3, None))), r"number of channels is known\. Received: input_shape"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
