"""What every front end promises: shapes, lengths, float32, gradients, config, files; and every preset on real audio."""

import inspect
import wave

import keras
import numpy as np
import pytest
import reference_features as reference
from conftest import real_file
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from layer_contract import gradient

from lightcnn import frontends
from lightcnn.frontends import CQCC, LFCC, PRESETS, ConstantQ, DCTFrames, FilterBank, Spectrum

# Small front ends in which every argument of every class is away from its default, so that none can be forgotten.
SHORT_TIME = {
    "sampling_rate": 8000,
    "frame_length": 50,
    "frame_step": 20,
    "window": "blackman",
    "periodic_window": True,
    "pre_emphasis": 0.9,
    "framing": "centered",
}
SPECTRUM = {
    "fft_length": 64,
    "num_bins": 30,
    "quantity": "magnitude",
    "log": "decibel",
    "epsilon": 1e-3,
    "minimum": 1e-4,
    "transform": "matrix",
}
FILTERS = {
    "num_filters": 6,
    "low_frequency": 100.0,
    "high_frequency": 3000.0,
    "scale": "mel",
    "stretch_bins": True,
    "whole_bins": False,
}
DELTAS = {"delta_orders": 1, "delta_half_width": 2, "delta_scale": 0.1}
CONSTANT_Q = {
    "sampling_rate": 8000,
    "frame_step": 24,
    "num_bins": 20,
    "bins_per_octave": 6,
    "min_frequency": 200.0,
    "gamma": 30.0,
    "quantity": "magnitude",
    "log": "log10",
    "epsilon": 1e-3,
    "minimum": 1e-4,
}
ALL_ARGUMENTS = [
    (Spectrum, SHORT_TIME | SPECTRUM),
    (FilterBank, SHORT_TIME | SPECTRUM | FILTERS),
    (LFCC, SHORT_TIME | SPECTRUM | FILTERS | DELTAS | {"num_coefficients": 4, "energy": True}),
    (DCTFrames, SHORT_TIME | {"num_coefficients": 12}),
    (ConstantQ, CONSTANT_Q),
    (CQCC, CONSTANT_Q | DELTAS | {"num_coefficients": 5, "samples_in_first_octave": 4}),
]
IDS = [layer_class.__name__ for layer_class, _ in ALL_ARGUMENTS]
# JAX compiles every operation for every shape, so there one preset of a kind must do.
ONE_OF_A_KIND = ["lfcc_asvspoof2019", "spectrum_nii", "stc2019_fft", "stc2017_fft", "stc2019_dct", "cqcc_asvspoof2019"]
SOME_PRESETS = ONE_OF_A_KIND if keras.backend.backend() == "jax" else list(PRESETS)
EPSILON_32, EPSILON_64 = np.finfo("float32").eps, np.finfo("float64").eps


def noise(*shape, seed=0):
    """Returns noise whose level rises and falls, so that frames differ."""
    values = np.random.default_rng(seed).normal(size=shape)
    return (0.1 * values * (1.1 + np.sin(np.arange(shape[-1]) / 50))).astype("float32")


def run(front_end, samples, lengths=None):
    return ops.convert_to_numpy(front_end(samples, lengths=lengths))


@pytest.fixture(scope="module")
def utterance():
    """16,000 samples a second of real speech, in [-1, 1]."""
    with wave.open(str(real_file("golden/D18_1000001.wav"))) as file:
        assert (file.getframerate(), file.getsampwidth(), file.getnchannels()) == (16000, 2, 1)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768


# Every preset stated again, from samples in float64 to features.
def _lfcc_asvspoof2019(samples):
    power = reference.power_spectrum(samples, 320, 160, 512, "hamming", False, 0.97, "pad_tail")
    energies = power @ reference.triangles(np.linspace(0, 8000, 257), 20, 0, 8000)
    return reference.with_deltas(reference.cepstra(np.log10(energies + EPSILON_64), 20))


def _nii_power(samples, span=512, bins=None):
    return reference.power_spectrum(samples, 320, 160, span, "hamming", True, 0.97, "centered", bins)


def _with_energy(power, filters, span):
    features = reference.cepstra(np.log10(power @ filters + EPSILON_32), 20)
    features[:, 0] = np.log10(power.sum(axis=1) / span + EPSILON_32)
    return reference.with_deltas(features)


def _lfcc_nii(samples):
    return _with_energy(_nii_power(samples), reference.triangles(np.linspace(0, 8000, 257), 20, 0, 8000), 512)


def _lfcc_asvspoof2021(samples):
    filters = reference.triangles(np.linspace(0, 4000, 256), 20, 0, 4000)
    return _with_energy(_nii_power(samples, 1024, 256), filters, 1024)


def _lfcc_gmm2021(samples):
    power = reference.power_spectrum(samples, 480, 240, 1024, "hamming", False, 0, "drop_tail")
    corners = np.array([int(1025 * (4000 * index / 71) / 16000) for index in range(72)])  # spafe 0.1's
    filters = [np.interp(np.arange(513), corners[index : index + 3], (0, 1, 0)) for index in range(70)]
    energies = power @ np.stack(filters, axis=1)
    return reference.with_deltas(reference.cepstra(np.log10(energies + EPSILON_64), 20))


def _lfb_nii(samples):
    energies = _nii_power(samples) @ reference.triangles(np.linspace(0, 8000, 257), 60, 0, 8000)
    return np.log10(energies + EPSILON_32)


def _stc2019_fft(samples):
    power = reference.power_spectrum(samples, 1724, 130, 1724, "blackman", True, 0, "centered")
    return np.log(power + 1e-8)


def _stc2017_fft(samples):
    power = reference.power_spectrum(samples, 400, 160, 1728, "hamming", False, 0.97, "drop_tail", 864)
    return np.log(np.sqrt(power) + np.exp(-80))


def _constant_q_power(samples):
    gamma = 228.7 * (2 ** (1 / 96) - 1)
    return np.abs(reference.constant_q(samples, 128, 863, 96, 16000 / 2**10, gamma, 16000)) ** 2


def _stc2019_cqt(samples):
    return np.log(_constant_q_power(samples) + 1e-12)


def _stc2019_dct(samples):
    frames = reference.windowed_frames(samples, 863, 128, 863, "blackman", True, 0, "drop_tail")
    return reference.cepstra(frames, 863)


def _cqcc_asvspoof2019(samples):
    evenly = reference.read_evenly(np.log(_constant_q_power(samples) + EPSILON_64), 96, 16000 / 2**10, 16)
    return reference.with_deltas(reference.cepstra(evenly, 30), 3, 1 / 28)


# preset -> (statement, features, fewest samples that give 600 frames)
EXPECTED = {
    "lfcc_asvspoof2019": (_lfcc_asvspoof2019, 60, 320 + 598 * 160 + 1),
    "lfcc_nii": (_lfcc_nii, 60, 599 * 160),
    "lfcc_asvspoof2021": (_lfcc_asvspoof2021, 60, 599 * 160),
    "lfcc_gmm2021": (_lfcc_gmm2021, 60, 480 + 599 * 240),
    "lfb_nii": (_lfb_nii, 60, 599 * 160),
    "spectrum_nii": (_nii_power, 257, 599 * 160),
    "stc2019_fft": (_stc2019_fft, 863, 77_870),
    "stc2017_fft": (_stc2017_fft, 864, 400 + 599 * 160),
    "stc2019_cqt": (_stc2019_cqt, 863, 599 * 128),
    "stc2019_dct": (_stc2019_dct, 863, 863 + 599 * 128),
    "cqcc_asvspoof2019": (_cqcc_asvspoof2019, 90, 599 * 128),
}


def test_every_preset_is_stated_here():
    assert list(EXPECTED) == list(PRESETS)
    assert all(getattr(frontends, name) is function for name, function in PRESETS.items())


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_gives_what_scipy_gives_on_a_real_utterance(name, utterance):
    statement, num_features, _ = EXPECTED[name]
    # The constant-Q sums are long: a second of them is enough.
    samples = utterance[20_000:36_000] if statement in (_stc2019_cqt, _cqcc_asvspoof2019) else utterance
    expected = statement(samples)
    features = run(PRESETS[name](), samples[None].astype("float32"))
    assert features.dtype == np.float32
    assert features.shape == (1, len(expected), num_features)
    # A share of the range. The worst are bins 100 dB below the loudest: rounding the samples alone costs 1.5e-4 there.
    np.testing.assert_allclose(features[0], expected, rtol=0, atol=8e-4 * np.ptp(expected))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_takes_16_khz_and_as_many_samples_as_its_frames_need(name):
    front_end, expected = PRESETS[name](), EXPECTED[name]
    assert front_end.sampling_rate == 16000
    assert front_end.samples_for(600) == expected[2]
    assert front_end.compute_output_shape((None, expected[2])) == (None, 600, expected[1])
    assert front_end.compute_output_shape((None, expected[2] - 1)) == (None, 599, expected[1])


def test_the_replay_network_of_2017_sees_400_frames_of_64240_samples():
    assert PRESETS["stc2017_fft"]().compute_output_shape((8, 64_240)) == (8, 400, 864)


def test_a_preset_takes_arguments_that_replace_its_own():
    front_end = frontends.lfcc_nii(name="features", delta_orders=0)
    assert (front_end.name, front_end.num_features, front_end.pre_emphasis) == ("features", 20, 0.97)
    with pytest.raises(ValueError, match="Unrecognized keyword"):
        frontends.lfcc_nii(num_filter=20)


@pytest.mark.parametrize(("layer_class", "arguments"), ALL_ARGUMENTS, ids=IDS)
def test_every_argument_is_an_attribute_and_in_the_config(layer_class, arguments):
    named = {
        parameter.name
        for base in layer_class.__mro__[: layer_class.__mro__.index(keras.layers.Layer)]
        for parameter in inspect.signature(base.__init__).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    assert named - {"self"} == set(arguments), "state every argument above"
    front_end = layer_class(**arguments)
    config = front_end.get_config()
    for name, value in arguments.items():
        assert config[name] == getattr(front_end, name) == value, name
    revived = layer_class.from_config(config)
    assert revived.get_config() == config
    samples = noise(2, 400)
    np.testing.assert_array_equal(run(revived, samples), run(front_end, samples))


@pytest.mark.parametrize(("layer_class", "arguments"), ALL_ARGUMENTS, ids=IDS)
def test_symbolic_and_real_shapes_agree(layer_class, arguments):
    front_end = layer_class(**arguments)
    for num_samples in (1, 49, 50, 479, 480, 481):
        expected = tuple(run(front_end, noise(2, num_samples)).shape)
        assert front_end.compute_output_shape((2, num_samples)) == expected
        assert front_end.num_frames(num_samples) == expected[1]
        symbolic = layer_class(**arguments)(keras.Input((num_samples,)))
        assert (tuple(symbolic.shape), symbolic.dtype) == ((None, *expected[1:]), "float32")
    assert tuple(front_end(keras.Input((None,))).shape) == (None, None, expected[2])


@pytest.mark.parametrize(("layer_class", "arguments"), ALL_ARGUMENTS, ids=IDS)
def test_in_a_model_of_any_length_and_from_its_file(layer_class, arguments, tmp_path):
    front_end = layer_class(**arguments)
    samples, lengths = keras.Input((None,)), keras.Input((), dtype="int32")
    model = keras.Model([samples, lengths], front_end(samples, lengths=lengths))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert model.weights == []
    for num_samples in (333, 400):
        inputs = noise(2, num_samples), np.array([num_samples, 111], "int32")
        expected = run(front_end, *inputs)
        for revived in (model, loaded):
            # `predict` compiles, and a compiled transform may round otherwise.
            np.testing.assert_allclose(revived.predict(inputs, verbose=0), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SOME_PRESETS)
def test_a_padded_row_gives_the_features_of_the_row_alone(name):
    front_end, total = PRESETS[name](), 4000
    lengths = np.array([total, front_end.samples_for(2) - 1, 0])
    samples = noise(len(lengths), total)
    for row, length in zip(samples, lengths, strict=True):
        row[length:] = np.nan  # what stands behind the end is not even looked at
    features = run(front_end, samples, lengths)
    counts = [front_end.num_frames(int(length)) for length in lengths]
    assert counts[-2:] == [1, 0]
    for row, length, count, result in zip(samples, lengths, counts, features, strict=True):
        np.testing.assert_array_equal(result[count:], 0.0)
        if count:
            alone = run(front_end, row[None, :length])[0]
            assert len(alone) == count
            # Rounding only: loud frames next door are no part of a row's own.
            np.testing.assert_allclose(result[:count], alone, rtol=1e-5, atol=1e-5 * max(np.ptp(alone), 1))


def test_a_row_too_short_for_a_frame_is_all_zeros():
    features = run(Spectrum(frame_length=320, log="ln", epsilon=1e-8), noise(2, 1000), np.array([319, 320]))
    np.testing.assert_array_equal(features[0], 0.0)
    assert (features[1, 0] != 0).all()


def test_lengths_beyond_the_samples_are_the_samples():
    front_end, samples = LFCC(20, fft_length=512), noise(1, 1000)
    np.testing.assert_array_equal(run(front_end, samples, np.array([5000])), run(front_end, samples))


@given(
    length=st.integers(1, 12),
    step=st.integers(1, 15),
    longer=st.integers(0, 7),
    framing=st.sampled_from(["drop_tail", "pad_tail", "centered"]),
    transform=st.sampled_from(["fft", "matrix"]),
    num_samples=st.integers(0, 60),
)
@settings(max_examples=60 if keras.backend.backend() != "jax" else 10)  # JAX compiles every shape
def test_the_number_of_frames_is_known_before(length, step, longer, framing, transform, num_samples):
    front_end = Spectrum(8000, length, step, fft_length=length + longer, framing=framing, transform=transform)
    expected = len(reference.frames_of(np.zeros(num_samples), length, step, framing, length + longer))
    expected = expected if num_samples else 0  # no audio, no frame
    assert front_end.num_frames(num_samples) == expected
    assert front_end.num_frames(np.array([num_samples])).tolist() == [expected]
    assert ops.convert_to_numpy(front_end.num_frames(ops.convert_to_tensor([num_samples]))).tolist() == [expected]
    if expected:
        power = reference.power_spectrum(
            noise(num_samples), length, step, length + longer, "hamming", False, 0, framing
        )
        np.testing.assert_allclose(run(front_end, noise(1, num_samples))[0], power, rtol=1e-4, atol=1e-5)
    else:
        with pytest.raises(ValueError, match=r"makes no frame of \d+ samples: the shortest audio is \d+ samples"):
            front_end(np.zeros((1, num_samples), "float32"))


@given(frames=st.integers(1, 40), name=st.sampled_from(list(PRESETS)))
@settings(max_examples=60)
def test_fewer_samples_give_fewer_frames(frames, name):
    front_end = PRESETS[name]()
    fewest = front_end.samples_for(frames)
    assert (front_end.num_frames(fewest), front_end.num_frames(fewest - 1)) == (frames, frames - 1)


@pytest.mark.parametrize("name", SOME_PRESETS)
def test_float32_whatever_the_policy(name):
    samples = noise(1, 2000)
    expected = run(PRESETS[name](), samples)
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        features = PRESETS[name]()(samples)
        symbolic = PRESETS[name]()(keras.Input((2000,)))
    finally:
        keras.config.set_dtype_policy(policy)
    assert keras.backend.standardize_dtype(features.dtype) == symbolic.dtype == "float32"
    np.testing.assert_array_equal(ops.convert_to_numpy(features), expected)


@pytest.mark.parametrize("name", SOME_PRESETS)
def test_silence_gives_finite_features_and_gradients(name):
    front_end, samples = PRESETS[name](), np.zeros((1, 2000), "float32")
    features = run(front_end, samples)
    assert np.isfinite(features).all()
    assert np.isfinite(gradient(front_end, samples, np.ones_like(features))).all()


def test_silence_is_the_floor():
    samples = np.zeros((1, 4000), "float32")
    # atol: a float32 ulp of 80
    np.testing.assert_allclose(run(PRESETS["stc2017_fft"](), samples), -80.0, rtol=0, atol=1e-5)
    np.testing.assert_allclose(run(PRESETS["lfb_nii"](), samples), np.log10(2.0**-23), rtol=1e-6)


@pytest.mark.parametrize(("layer_class", "arguments"), ALL_ARGUMENTS, ids=IDS)
def test_the_gradient_is_the_slope(layer_class, arguments):
    front_end, samples = layer_class(**arguments), noise(1, 300)
    features = run(front_end, samples)
    upstream = np.random.default_rng(1).normal(size=features.shape).astype("float32") / features.size
    slope = gradient(front_end, samples, upstream)
    direction = np.sign(slope)  # so that the slopes of all samples add up
    step = 1e-3 * direction
    change = ((run(front_end, samples + step) - run(front_end, samples - step)) * upstream).sum() / 2e-3
    # rtol: curvature over the step and float32.
    assert change == pytest.approx((slope * direction).sum(), rel=0.02)


@pytest.mark.parametrize("make", [lambda: LFCC(8, frame_length=100, frame_step=50), lambda: ConstantQ(**CONSTANT_Q)])
def test_samples_must_be_floating_point_and_of_one_channel(make):
    with pytest.raises(ValueError, match=r"divide 16-bit integers by 32768.*Received: samples.dtype=int16"):
        make()(np.zeros((1, 1000), "int16"))
    for shape in ((1000,), (1, 1000, 2)):
        with pytest.raises(ValueError, match=r"needs samples of shape \(batch, samples\).*Received: samples.shape="):
            make()(np.zeros(shape, "float32"))


def test_float64_samples_are_taken_as_float32():
    samples = noise(1, 1000)
    np.testing.assert_array_equal(run(Spectrum(), samples.astype("float64")), run(Spectrum(), samples))


@pytest.mark.parametrize(
    ("layer_class", "arguments", "message"),
    [
        (Spectrum, {"sampling_rate": 0}, "`sampling_rate` must be an integer"),
        (Spectrum, {"frame_length": 2.5}, "`frame_length` must be an integer"),
        (Spectrum, {"frame_step": 0}, "`frame_step` must be an integer"),
        (Spectrum, {"fft_length": 100}, "`fft_length` must be an integer of at least 320"),
        (Spectrum, {"window": "haming"}, "`window` must be one of"),
        (Spectrum, {"pre_emphasis": 2}, "`pre_emphasis` must be a number from 0 to 1"),
        (Spectrum, {"framing": "center"}, "`framing` must be one of"),
        (Spectrum, {"num_bins": 162}, "`num_bins` must be from 1 to the 161 bins"),
        (Spectrum, {"quantity": "energy"}, "`quantity` must be one of"),
        (Spectrum, {"log": "log2"}, "`log` must be one of None, 'ln'"),
        (Spectrum, {"log": "ln"}, "logarithm of digital silence"),
        (Spectrum, {"epsilon": -1.0}, "`epsilon` must be a number"),
        (Spectrum, {"transform": "dft"}, "`transform` must be one of"),
        (FilterBank, {"num_filters": 0}, "`num_filters` must be an integer"),
        (FilterBank, {"num_filters": 400}, "see none"),
        (FilterBank, {"num_filters": 4, "high_frequency": 9000.0}, "`high_frequency` must be a number from 0 to 8000"),
        (FilterBank, {"num_filters": 4, "low_frequency": 8000.0, "high_frequency": 8000.0}, "`high_frequency` must be"),
        (FilterBank, {"num_filters": 4, "scale": "bark"}, "`scale` must be one of"),
        (LFCC, {"num_filters": 4, "num_coefficients": 5}, "`num_coefficients` must be at most"),
        (LFCC, {"num_filters": 4, "delta_orders": -1}, "`delta_orders` must be an integer of at least 0"),
        (DCTFrames, {"num_coefficients": 321}, "`num_coefficients` must be at most"),
        (ConstantQ, {"num_bins": 865}, "not below half the sampling rate"),
        (ConstantQ, {"min_frequency": 0}, "`min_frequency` must be a number"),
        (ConstantQ, {"gamma": -1.0}, "`gamma` must be a number"),
        (CQCC, {"num_coefficients": 5, "num_bins": 3}, "needs 4 bins"),
    ],
)
def test_arguments_that_do_not_fit_are_named(layer_class, arguments, message):
    with pytest.raises(ValueError, match=rf"{message}.*Received: \w+="):
        layer_class(**arguments)
