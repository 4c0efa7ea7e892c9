"""Learning rates over time."""

import keras
from keras import ops

__all__ = ["OneCycle"]


@keras.saving.register_keras_serializable(package="lightcnn")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """One triangle: a linear rise to the peak, then a linear fall to zero; a constant after it.

    Reference:
        Smith, Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates":
        https://arxiv.org/abs/1708.07120

    Args:
        peak_learning_rate: Float. The largest learning rate.
        num_steps: Integer. The number of steps of the triangle.
        warmup_fraction: Float in (0, 1). The share of the steps that rise.
        initial_fraction: Float in [0, 1]. The learning rate of the first step, as a share of the peak.
        final_fraction: Float in [0, 1]. That of step `num_steps` (counted from 0) and of all after it.

    Example:
    >>> schedule = lightcnn.schedules.OneCycle(0.1, num_steps=100, warmup_fraction=0.2)
    >>> [round(float(schedule(step)), 3) for step in (0, 20, 60, 100)]
    [0.01, 0.1, 0.05, 0.0]
    """

    def __init__(self, peak_learning_rate, num_steps, warmup_fraction=0.3, initial_fraction=0.1, final_fraction=0.0):
        ends = (initial_fraction, final_fraction)
        if num_steps < 1 or not 0 < warmup_fraction < 1 or not all(0 <= end <= 1 for end in ends):
            raise ValueError(
                "OneCycle needs at least one step, a warm-up share between 0 and 1, and a first and a final share from "
                f"0 to 1. Received: num_steps={num_steps}, warmup_fraction={warmup_fraction}, "
                f"initial_fraction={initial_fraction}, final_fraction={final_fraction}"
            )
        self.peak_learning_rate = peak_learning_rate
        self.num_steps = num_steps
        self.warmup_fraction = warmup_fraction
        self.initial_fraction = initial_fraction
        self.final_fraction = final_fraction

    def __call__(self, step):
        progress = ops.cast(step, "float32") / self.num_steps
        rise = self.initial_fraction + (1 - self.initial_fraction) * progress / self.warmup_fraction
        fall = (1 - progress) / (1 - self.warmup_fraction)
        return self.peak_learning_rate * ops.where(progress < 1, ops.minimum(rise, fall), self.final_fraction)

    def get_config(self):
        return {
            "peak_learning_rate": self.peak_learning_rate,
            "num_steps": self.num_steps,
            "warmup_fraction": self.warmup_fraction,
            "initial_fraction": self.initial_fraction,
            "final_fraction": self.final_fraction,
        }
