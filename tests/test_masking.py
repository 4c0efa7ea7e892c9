"""SpecAugment hides bands of each recording in training, and nothing otherwise."""

import keras
import numpy as np
import pytest
from keras import ops
from layer_contract import check_layer, example

from lightcnn.layers import FeatureMask


def masked(features, **arguments):
    return ops.convert_to_numpy(FeatureMask(**arguments)(features, training=True))


def test_the_layer_contract(tmp_path):
    check_layer(FeatureMask, {"max_frames": 2, "max_bins": 3, "num_masks": 1, "seed": 5}, [(7, 6), (1, 6)], tmp_path)


def test_nothing_is_hidden_outside_training():
    features = example((30, 20))
    np.testing.assert_array_equal(ops.convert_to_numpy(FeatureMask(10, 10)(features)), features)


def test_what_is_hidden_is_whole_bands_and_has_the_recordings_mean():
    features = example((50, 20), batch_size=40)
    result = masked(features, max_frames=10, max_bins=5, num_masks=1, seed=1)
    for before, after in zip(features, result, strict=True):
        hidden = before != after
        np.testing.assert_allclose(after[hidden], before.mean(), atol=1e-6)
        frames, bins = np.flatnonzero(hidden.all(axis=1)), np.flatnonzero(hidden.all(axis=0))
        assert len(frames) <= 10
        assert len(bins) <= 5
        expected = np.zeros_like(hidden)
        expected[frames], expected[:, bins] = True, True
        np.testing.assert_array_equal(hidden, expected)
        for places in (frames, bins):
            assert (np.diff(places) == 1).all()


def test_every_length_and_every_place_occurs():
    features = example((6, 8), batch_size=600)
    hidden = (masked(features, max_bins=3, num_masks=1, seed=2) != features).all(axis=1)
    counts = np.bincount(hidden.sum(axis=1), minlength=4)
    assert len(counts) == 4
    assert counts.min() > 100  # 150 each are expected
    assert hidden.any(axis=0).all()


def test_two_masks_and_masks_longer_than_a_recording():
    features = example((4, 9), batch_size=300)
    hidden = (masked(features, max_frames=100, num_masks=2, seed=3) != features).all(axis=2)
    assert set(hidden.sum(axis=1).tolist()) == {0, 1, 2, 3, 4}
    assert any((np.diff(np.flatnonzero(row)) > 1).any() for row in hidden), "two stretches apart"


def test_a_seed_repeats_itself_and_calls_differ():
    features, one, other = example((50, 20)), FeatureMask(10, 5, seed=4), FeatureMask(10, 5, seed=4)
    first, again = (ops.convert_to_numpy(layer(features, training=True)) for layer in (one, other))
    np.testing.assert_array_equal(first, again)
    assert (ops.convert_to_numpy(one(features, training=True)) != first).any()


def test_padding_stays_as_it_is_and_counts_for_nothing():
    features = example((20, 8), batch_size=50)
    padded = np.pad(features, ((0, 0), (0, 30), (0, 0)), constant_values=7)
    layer = FeatureMask(max_frames=10, max_bins=4, seed=1)
    result = ops.convert_to_numpy(layer(padded, np.full(50, 20, np.int32), training=True))
    np.testing.assert_allclose(result[:, :20], masked(features, max_frames=10, max_bins=4, seed=1), atol=1e-6)
    np.testing.assert_array_equal(result[:, 20:], padded[:, 20:])


def test_recordings_of_a_batch_have_lengths_of_their_own():
    features, lengths = example((40, 8), batch_size=400), np.repeat([10, 40], 200).astype(np.int32)
    changed = (ops.convert_to_numpy(FeatureMask(40, seed=1)(features, lengths, training=True)) != features).any(axis=2)
    reached = [changed[lengths == length].any(axis=0).sum() for length in (10, 40)]
    assert reached == [10, 40]
    assert all(changed[lengths == length].sum(axis=1).max() == length for length in (10, 40))


def test_any_number_of_frames_in_a_graph():
    inputs, lengths = keras.Input((None, 20)), keras.Input((), dtype="int32")
    model = keras.Model(inputs, FeatureMask(5, 5)(inputs))
    assert model(example((13, 20)), training=True).shape == (3, 13, 20)
    padded = keras.Model([inputs, lengths], FeatureMask(5, 5)(inputs, lengths))
    assert padded.output_shape == (None, None, 20)
    assert padded([example((13, 20)), np.array([3, 13, 20], np.int32)], training=True).shape == (3, 13, 20)


@pytest.mark.parametrize("arguments", [{"max_frames": -1}, {"max_bins": 2.0}, {"num_masks": 0}])
def test_wrong_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=f"Received: {next(iter(arguments))}="):
        FeatureMask(**arguments)
