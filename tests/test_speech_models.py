"""Countermeasures: the papers' counts, PyTorch's numbers, and scores that do not depend on padding."""

import keras
import numpy as np
import pytest
from keras import ops
from layer_contract import example, random_weights

from lightcnn import frontends
from lightcnn.layers import HEADS, score_of
from lightcnn.losses import loss_for
from lightcnn.models import (
    from_samples,
    lcnn_attention,
    lcnn_fixed,
    lcnn_lstm_sum,
    load_model,
    save_model,
    stc2017,
    stc2019,
)

# Table 1 of "STC Antispoofing Systems for the ASVspoof2019 Challenge" with time first; it prints 864 for MFM_2's 863.
STC_2019 = {
    "conv_1": (600, 863, 32),
    "pool_1": (300, 431, 32),
    "norm_2": (300, 431, 32),
    "norm_3": (150, 215, 48),
    "norm_4": (150, 215, 48),
    "pool_5": (75, 107, 64),
    "norm_6": (75, 107, 64),
    "norm_7": (75, 107, 32),
    "norm_8": (75, 107, 32),
    "pool_9": (37, 53, 32),
    "dense": (160,),
    "embedding": (80,),
}
# The layers of the 2017 system with their parameters.
STC_2017 = {
    "conv_1": (400, 864, 16, 832),
    "conv_2": (200, 432, 16, 544),
    "conv_3": (200, 432, 24, 6_960),
    "conv_4": (100, 216, 24, 1_200),
    "conv_5": (100, 216, 32, 13_888),
    "conv_6": (50, 108, 32, 2_112),
    "conv_7": (50, 108, 16, 9_248),
    "conv_8": (25, 54, 16, 544),
    "conv_9": (25, 54, 16, 4_640),
    "pool_9": (12, 27, 16, 0),
    "embedding": (32, 331_840),
    "head": (2, 66),
}
ANY_LENGTH = [lcnn_attention, lcnn_lstm_sum]
# head -> size of the embedding, size of the dense layer of lcnn_fixed after MFM
NII = {
    "sigmoid": (None, 80),
    "softmax": (None, 80),
    "a_softmax": (64, 256),
    "am_softmax": (64, 256),
    "oc_softmax": (256, 256),
    "p2sgrad": (64, 80),
}


def as_numpy(values):
    return ops.convert_to_numpy(values)


def run(model, *inputs):
    """Returns the model's output, compiled: JAX without that compiles every operation for every length."""
    return model.predict_on_batch(list(inputs) if len(inputs) > 1 else inputs[0])


def trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def with_random_weights(model):
    """Returns the model with weights that keep values near one, and statistics as after a training."""
    model.set_weights(random_weights(model))
    return model


def torch_trunk(model, images):
    """States the nine convolutions by PyTorch's functions; only the weights come from the model."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = torch.tensor(images)[:, None]
    for index in range(1, 10):
        kernel, bias = (torch.tensor(weight) for weight in model.get_layer(f"conv_{index}").get_weights())
        x = functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias, padding=kernel.shape[0] // 2)
        x = torch.maximum(*x.chunk(2, dim=1))
        if index in (1, 3, 5, 9):
            x = functional.max_pool2d(x, 2)
        if index in (2, 3, 4, 6, 7, 8):
            mean, variance = (torch.tensor(weight) for weight in model.get_layer(f"norm_{index}").get_weights()[-2:])
            x = functional.batch_norm(x, mean, variance, eps=1e-5)
    return x.numpy()


def padded_batch(lengths, frames, num_features=16):
    """Returns files of several lengths, the same with something else in their padding, and the lengths."""
    files = example((frames, num_features), len(lengths))
    others = files.copy()
    for file, length in zip(others, lengths, strict=True):
        file[length:] = np.nan if length % 2 else 1000
    return files, others, np.array(lengths, "int32")


def test_stc2019_has_the_parameters_and_shapes_of_the_paper():
    # Zeros, since ten million random numbers take their time.
    model = stc2019(kernel_initializer="zeros")
    assert (trainable(model), model.count_params()) == (10_198_818, 10_199_490)
    assert {name: tuple(model.get_layer(name).output.shape[1:]) for name in STC_2019} == STC_2019
    assert model.input_shape == (None, 600, 863)
    assert model.output_shape == (None, 2)


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        ((863, 600, 1), 10_198_818),
        ((750, 60), 865_058),
        ((60, 750, 1), 865_058),
        ((16, 16), 157_504 + 672 + 33 * 160 + 162),  # convolutions, batch norm and two dense layers
    ],
)
def test_stc2019_takes_any_size_and_order(shape, parameters):
    assert trainable(stc2019(shape, kernel_initializer="zeros")) == parameters


def test_stc2017_has_the_parameters_and_shapes_of_the_paper():
    model = stc2017(kernel_initializer="zeros")
    assert trainable(model) == model.count_params() == 371_874
    layers = [model.get_layer(name) for name in STC_2017]
    assert {layer.name: (*layer.output.shape[1:], layer.count_params()) for layer in layers} == STC_2017


@pytest.mark.parametrize(
    ("position", "names"),
    [
        ("before_norm", ["dense", "embedding", "dropout", "norm_10"]),
        ("after_norm", ["dense", "embedding", "norm_10", "dropout"]),
        ("before_mfm", ["dense", "dropout", "embedding", "norm_10"]),
        ("before_dense", ["dropout", "dense", "embedding", "norm_10"]),
    ],
)
def test_dropout_of_stc2019_stands_where_one_wants(position, names):
    model = stc2019((16, 16), dropout_position=position)
    after = [layer.name for layer in model.layers]
    assert [name for name in after[after.index("flatten") + 1 :] if name in names] == names
    assert model.get_layer("dropout").rate == 0.75


def test_kernels_start_as_in_kaiming_normal():
    kernel = stc2019((160, 160)).get_layer("dense").get_weights()[0]
    assert kernel.std() == pytest.approx(np.sqrt(2 / len(kernel)), rel=0.02)


@pytest.mark.parametrize("head", HEADS)
def test_heads_and_embeddings_are_chosen_apart(head):
    size, units = NII[head]
    for network, pooled in ((lcnn_attention(head=head), 192), (lcnn_lstm_sum(head=head), 96)):
        assert network.get_layer("embedding").output.shape == (None, size or pooled)
    network = lcnn_fixed(head=head)
    assert network.get_layer("embedding").output.shape == (None, size or units)
    assert network.get_layer("hidden" if size else "embedding").output.shape == (None, units)
    assert lcnn_fixed(head=head, embedding_size=7).get_layer("embedding").output.shape == (None, 7)
    for build in (stc2019, stc2017):
        assert build((32, 32), head=head).output.shape[1:] == network.output.shape[1:]


def test_the_nii_family_has_the_published_parameters():
    # The convolutions have 157,504; PyTorch's LSTMs have one bias more, 4 x 192 numbers.
    lstm = 2 * 2 * 4 * 48 * (96 + 48 + 1)
    assert trainable(lcnn_lstm_sum()) == 157_504 + lstm + 97 == 269_729 - 4 * 192
    assert trainable(lcnn_attention()) == 157_504 + 96 + 193
    assert trainable(lcnn_fixed()) == 157_504 + 4417 * 160 + 81
    assert trainable(lcnn_fixed(head="oc_softmax")) == 157_504 + 4417 * 512 + 257 * 256 + 256


def test_pooling_of_the_lstms_is_as_published():
    pooling = {head: lcnn_lstm_sum(head=head).layers[-2 if NII[head][0] is None else -3].mode for head in HEADS}
    assert {head for head, mode in pooling.items() if mode == "mean"} == {"sigmoid", "softmax"}
    assert lcnn_lstm_sum(pooling="sum").get_layer("embedding").mode == "sum"


def test_lcnn_fixed_computes_what_pytorch_does():
    model = with_random_weights(lcnn_fixed((33, 16), embedding_size=3, hidden_units=5))
    images = example((33, 16), 2)
    # Frames, features, channels: the order in which our own dense layer reads.
    x = torch_trunk(model, images).transpose(0, 2, 3, 1).reshape(2, -1)
    kernel, bias = model.get_layer("hidden").get_weights()
    x = x @ kernel + bias
    x = np.maximum(x[:, :5], x[:, 5:])
    for name in ("embedding", "head"):
        kernel, bias = model.get_layer(name).get_weights()
        x = x @ kernel + bias
    np.testing.assert_allclose(run(model, images), x, rtol=1e-4, atol=1e-4)


def test_lcnn_attention_computes_what_pytorch_does():
    torch = pytest.importorskip("torch")
    model, files = with_random_weights(lcnn_attention(16)), example((70, 16), 2)
    for lengths in ([70, 70], [33, 33]):
        x = torch.tensor(torch_trunk(model, files[:, : lengths[0]])).permute(0, 2, 1, 3).flatten(2)
        (kernel,), (classifier, bias) = (
            model.get_layer("embedding").get_weights(),
            model.get_layer("head").get_weights(),
        )
        x = x * torch.softmax(torch.tanh(x @ torch.tensor(kernel)), dim=1)
        x = torch.cat([x.sum(1), x.std(1)], dim=1).numpy()
        outputs = run(model, files, np.array(lengths, "int32"))
        np.testing.assert_allclose(outputs, x @ classifier + bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("build", ANY_LENGTH)
def test_a_file_in_a_padded_batch_scores_as_it_does_alone(build):
    network = with_random_weights(build(16, head="p2sgrad", output="score"))
    both = keras.Model(network.inputs, [network.get_layer("embedding").output, network.output])
    files, others, lengths = padded_batch([70, 49, 16, 5], 70)
    embeddings, scores = run(both, files, lengths)
    assert np.std(scores) > 0.01  # what follows would be true of a constant
    for got, expected in zip(run(both, others, lengths), (embeddings, scores), strict=True):
        np.testing.assert_array_equal(got, expected)
    for row in (1, 3):
        alone = run(both, files[row : row + 1, : lengths[row]], lengths[row : row + 1])
        np.testing.assert_allclose(alone[0][0], embeddings[row], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(alone[1][0], scores[row], rtol=0, atol=1e-4)


@pytest.mark.parametrize("build", ANY_LENGTH)
def test_a_short_file_is_the_file_repeated(build):
    network = with_random_weights(build(16, output="score"))
    files = example((16, 16), 2)
    repeated = np.stack([files[0], np.tile(files[1, :5], (4, 1))[:16]])
    scores = run(network, files, np.array([16, 5], "int32"))
    np.testing.assert_array_equal(scores, run(network, repeated, np.array([16, 16], "int32")))


@pytest.mark.parametrize("build", ANY_LENGTH)
def test_training_learns_nothing_from_the_padding(build):
    files, others, lengths = padded_batch([36, 17], 36)
    others = np.nan_to_num(others, nan=-50)
    model = build(16, dropout=0.0)
    model.compile(keras.optimizers.SGD(0.1), loss_for("sigmoid"))
    start, learned = model.get_weights(), []
    for features in (files, others):
        model.set_weights(start)
        model.fit([features, lengths], np.array([0, 1]), batch_size=2, shuffle=False, verbose=0)
        learned.append(model.get_weights())
    for first, second, before in zip(*learned, start, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)
        assert np.isfinite(first).all()
        assert (first != before).any()


def test_a_score_is_made_of_what_the_head_gives():
    raw, scored = (stc2019((16, 16), head="a_softmax", output=output) for output in ("raw", "score"))
    with_random_weights(raw)
    scored.set_weights(raw.get_weights())
    images = example((16, 16))
    np.testing.assert_array_equal(as_numpy(scored(images)), as_numpy(score_of("a_softmax", raw(images))))
    assert scored.output_shape == (None,)
    assert scored.layers[-1].name == "score"


@pytest.mark.parametrize(
    "model",
    [stc2017((32, 32), head="softmax", output="score"), lcnn_attention(16, head="oc_softmax")],
    ids=["fixed", "any length"],
)
def test_a_network_is_saved_whole(tmp_path, model):
    with_random_weights(model)
    inputs = [example((32, 32), 2)] if len(model.inputs) == 1 else [example((40, 16), 2), np.array([40, 20], "int32")]
    save_model(model, tmp_path / "model.keras", {})
    loaded = load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(run(loaded, *inputs), run(model, *inputs))


def test_in_bfloat16_the_head_stays_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = lcnn_lstm_sum(16, head="am_softmax", output="score")
    finally:
        keras.config.set_dtype_policy("float32")
    exact = lcnn_lstm_sum(16, head="am_softmax", output="score")
    exact.set_weights(model.get_weights())
    assert model.get_layer("conv_1").compute_dtype == "bfloat16"
    files, _, lengths = padded_batch([40, 20], 40)
    assert model.output.dtype == "float32"
    np.testing.assert_allclose(run(model, files, lengths), run(exact, files, lengths), atol=0.05)


def test_samples_of_any_length_score_in_a_batch_as_alone():
    model = from_samples(frontends.lfcc_nii(name="front_end"), with_random_weights(lcnn_lstm_sum(output="score")))
    assert [(tensor.name, tensor.shape) for tensor in model.inputs] == [("samples", (None, None)), ("lengths", (None,))]
    samples = (0.1 * example((9000,), 3)).astype("float32")
    lengths = np.array([9000, 6007, 900], "int32")
    scores = run(model, samples, lengths)
    assert np.std(scores) > 0.01
    for row in (1, 2):
        alone = run(model, samples[row : row + 1, : lengths[row]], lengths[row : row + 1])
        np.testing.assert_allclose(alone, scores[row : row + 1], rtol=1e-4, atol=1e-4)


def test_samples_and_their_embedding_are_saved(tmp_path):
    network = with_random_weights(lcnn_attention(16))
    front_end = frontends.lfb_nii(num_filters=16, name="front_end")
    model = from_samples(front_end, network)
    save_model(model, tmp_path / "model.keras", {})
    loaded = load_model(tmp_path / "model.keras")
    inputs = [example((4000,), 2), np.array([4000, 3000], "int32")]
    outputs = run(model, *inputs)
    np.testing.assert_array_equal(run(loaded, *inputs), outputs)
    kernel, bias = network.get_layer("head").get_weights()
    embedder = keras.Model(loaded.inputs, loaded.get_layer("embedding").output)
    assert embedder.output_shape == (None, 64)
    np.testing.assert_allclose(
        as_numpy(embedder(inputs)) @ kernel + bias, as_numpy(model(inputs)), rtol=1e-4, atol=1e-5
    )


def test_embeddings_of_features():
    network = stc2019((16, 16))
    assert network.get_layer("embedding").output.shape == (None, 80)


@pytest.mark.parametrize(("frames", "num_samples"), [(600, 77_870), (16, 1_950)])
def test_a_network_of_fixed_size_says_how_many_samples_it_takes(frames, num_samples):
    # Centred frames every 130 samples: the first one needs none.
    model = from_samples(frontends.stc2019_fft(name="front_end"), stc2019((frames, 863), kernel_initializer="zeros"))
    assert model.input_shape == (None, num_samples)
    assert [tensor.name for tensor in model.inputs] == ["samples"]
    if frames == 16:
        assert as_numpy(model(example((num_samples,), 1))).shape == (1, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: stc2019((15, 60)), r"`input_shape` of stc2019 must be.*both at least 16.*\(15, 60\)"),
        (lambda: stc2017((400, 31, 1)), r"`input_shape` of stc2017 must be.*both at least 32"),
        (lambda: lcnn_fixed((750, 60, 3)), r"must be \(frames, features\).*Received: input_shape=\(750, 60, 3\)"),
        (lambda: lcnn_fixed((None, 60)), r"Received: input_shape=\(None, 60\)"),
        (lambda: lcnn_attention(15), r"`num_features` of lcnn_attention must be an integer of at least 16"),
        (lambda: lcnn_lstm_sum(head="sigmod"), r"`head` must be one of .*Received: head='sigmod'"),
        (lambda: stc2017(head="x", input_shape=(32, 32)), r"`head` must be one of .*Received: head='x'"),
        (lambda: stc2019((16, 16), output="logit"), r"`output` must be one of 'raw', 'score'\. Received"),
        (lambda: stc2019(dropout_position="first"), r"`dropout_position` must be one of 'before_dense'.*'first'"),
        (lambda: lcnn_lstm_sum(16, pooling="max"), r"`mode` must be one of 'mean', 'sum'"),
        (
            lambda: from_samples(frontends.lfcc_nii(name="front_end"), lcnn_attention(20)),
            r"takes 20 features a frame, and the front end 'front_end' gives 60",
        ),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
