"""Learning rates over time."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from lightcnn.schedules import OneCycle


@given(
    peak=st.floats(1e-4, 1.0),
    num_steps=st.integers(1, 10_000),
    warmup_fraction=st.floats(0.01, 0.99),
    initial_fraction=st.floats(0.0, 1.0),
    final_fraction=st.floats(0.0, 1.0),
    step=st.integers(0, 12_000),
)
@settings(max_examples=60)
def test_one_cycle_is_a_line_up_and_a_line_down(
    peak, num_steps, warmup_fraction, initial_fraction, final_fraction, step
):
    schedule = OneCycle(peak, num_steps, warmup_fraction, initial_fraction, final_fraction)
    corners = [0, warmup_fraction * num_steps, num_steps]
    expected = np.interp(step, corners, [initial_fraction * peak, peak, 0.0])
    if step >= num_steps:
        expected = final_fraction * peak
    assert float(schedule(step)) == pytest.approx(expected, rel=1e-4, abs=1e-5 * peak)


def test_one_cycle_at_its_corners():
    schedule = OneCycle(0.1, num_steps=100, warmup_fraction=0.2)
    rates = [float(schedule(step)) for step in (0, 10, 20, 60, 100, 150)]
    np.testing.assert_allclose(rates, [0.01, 0.055, 0.1, 0.05, 0.0, 0.0], atol=1e-8)


def test_training_follows_the_schedule():
    schedule = OneCycle(0.5, num_steps=5, warmup_fraction=0.4, initial_fraction=0.2)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    # The loss is the weight itself, so each step subtracts the learning rate of that step.
    model.compile(keras.optimizers.SGD(schedule), loss=lambda _, outputs: ops.mean(outputs))
    model.fit(np.ones((7, 1), "float32"), np.zeros((7, 1), "float32"), batch_size=1, shuffle=False, verbose=0)
    rates = [0.1, 0.3, 0.5, 1 / 3, 1 / 6, 0.0, 0.0]
    assert float(model.get_weights()[0][0, 0]) == pytest.approx(-sum(rates), rel=1e-5)


def test_one_cycle_survives_serialization():
    schedule = OneCycle(0.5, 40, warmup_fraction=0.25, initial_fraction=0.05, final_fraction=0.2)
    optimizer = keras.optimizers.Adam(schedule)
    revived = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    fractions = {"warmup_fraction": 0.25, "initial_fraction": 0.05, "final_fraction": 0.2}
    assert schedule.get_config() == {"peak_learning_rate": 0.5, "num_steps": 40, **fractions}
    assert keras.optimizers.serialize(revived) == keras.optimizers.serialize(optimizer)
    assert float(revived.learning_rate) == pytest.approx(0.5 * 0.05)


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_steps": 0},
        {"num_steps": -3},
        {"warmup_fraction": 0.0},
        {"warmup_fraction": 1.0},
        {"warmup_fraction": float("nan")},
        {"initial_fraction": -0.1},
        {"initial_fraction": 1.5},
        {"final_fraction": -0.1},
        {"final_fraction": 1.5},
    ],
)
def test_arguments_are_checked(wrong):
    with pytest.raises(ValueError, match=f"Received: .*{next(iter(wrong))}="):
        OneCycle(**{"peak_learning_rate": 0.1, "num_steps": 10, **wrong})
