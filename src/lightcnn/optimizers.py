"""How weights follow gradients, where Keras' own optimizers do it otherwise than the published trainings."""

import math
from fnmatch import fnmatchcase

import keras
from keras import ops

__all__ = ["CoupledSGD", "Muon"]


@keras.saving.register_keras_serializable(package="lightcnn")
class CoupledSGD(keras.optimizers.SGD):
    """SGD with momentum as in Caffe: weight decay is a part of the gradient, and variables have rates of their own.

    A step clips the raw gradients, adds `weight_decay * variable` to them, and then moves:
    `velocity = momentum * velocity - rate * gradient; variable += velocity`. The rate is inside the velocity, as in
    Caffe and Keras; PyTorch's SGD multiplies by it later, which is the same as long as the rate is.

    A weight decay of `x` is what `keras.regularizers.L2(x / 2)` does, since the gradient of a square is twice the
    value; L2(x), as some ports have it, decays twice as fast. The `weight_decay` of Keras' own optimizers is apart from
    the gradient, and so from its momentum.

    Reference:
        Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in deep learning", 2013;
        the multipliers are Caffe's `lr_mult`.

    Args:
        learning_rate: Float, or a schedule.
        momentum: Float from 0 to 1.
        weight_decay: Float, at least 0; not of the variables in `exclude_from_weight_decay`.
        rate_multipliers: Dictionary from the end of variables' paths (`layer/variable`, `*` for anything) to what their
            learning rate is multiplied by. What fits several is multiplied by all of them. None for none.
        clipnorm, clipvalue, global_clipnorm, name and others: As in `keras.optimizers.SGD`.

    Example:
    >>> optimizer = lightcnn.optimizers.CoupledSGD(
    ...     0.01, weight_decay=1e-4, rate_multipliers={"logits/*": 10, "bias": 2}
    ... )
    >>> optimizer.exclude_from_weight_decay(var_names=["bias"])
    """

    def __init__(
        self,
        learning_rate=0.01,
        momentum=0.9,
        weight_decay=0.0,
        rate_multipliers=None,
        name="coupled_sgd",
        **kwargs,
    ):
        if not isinstance(weight_decay, int | float) or not weight_decay >= 0:
            raise ValueError(f"`weight_decay` must be a number of at least 0. Received: weight_decay={weight_decay!r}")
        super().__init__(learning_rate, momentum=momentum, weight_decay=weight_decay, name=name, **kwargs)
        self.rate_multipliers = {} if rate_multipliers is None else dict(rate_multipliers)
        if any(not isinstance(value, int | float) or not value >= 0 for value in self.rate_multipliers.values()):
            raise ValueError(
                "`rate_multipliers` must be numbers of at least 0 by the ends of variables' paths, such as "
                f"{{'logits/*': 10.0}}. Received: rate_multipliers={rate_multipliers}"
            )

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._rates = [self._rate_multiplier(variable.path) for variable in variables]
        self._decays = [self.weight_decay if self._use_weight_decay(variable) else 0.0 for variable in variables]

    def _rate_multiplier(self, path):
        fitting = [value for end, value in self.rate_multipliers.items() if fnmatchcase(f"/{path}", f"*/{end}")]
        return math.prod(fitting, start=1.0)

    def _apply_weight_decay(self, variables):
        """Does nothing where Keras decays apart from the gradient: `update_step` adds it to the gradient."""

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        if self._decays[index]:
            gradient = ops.add(gradient, ops.multiply(variable, ops.cast(self._decays[index], variable.dtype)))
        super().update_step(gradient, variable, ops.multiply(learning_rate, self._rates[index]))

    def get_config(self):
        return {**super().get_config(), "rate_multipliers": self.rate_multipliers}


@keras.saving.register_keras_serializable(package="lightcnn")
class Muon(keras.optimizers.Muon):
    """Muon for convolutions: Keras' own, which leaves kernels of more than two axes to AdamW.

    A kernel `(height, width, channels, filters)` is taken as the matrix `(height * width * channels, filters)`, and its
    momentum is made nearly orthogonal before the step. Biases, scales, and the layers in `exclude_layers` follow AdamW.
    A step of Muon moves a weight by a fifth of its rate, one of AdamW by about the rate: with a fifth of the rate for
    AdamW both do the same.

    Reference:
        Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024:
        https://kellerjordan.github.io/posts/muon/

    Args:
        learning_rate: Float, or a schedule.
        weight_decay: Float, apart from the gradient; None for none.
        adam_weight_decay: That of what follows AdamW, by the whole learning rate as in Keras; None for the same.
        adam_lr_ratio: Float. AdamW's learning rate as a share of `learning_rate`.
        exclude_layers: Strings; a variable with one of them in its path follows AdamW. The last layer belongs here:
            this package calls it "logits" or "head".
        exclude_embeddings: Boolean. Whether layers called "embedding" follow AdamW. Light CNNs' are
            dense, so no.
        name and others: As in `keras.optimizers.Muon`.

    Example:
    >>> optimizer = lightcnn.optimizers.Muon(0.01, weight_decay=0.02)
    """

    def __init__(
        self,
        learning_rate=0.001,
        weight_decay=0.004,
        adam_weight_decay=None,
        adam_lr_ratio=0.2,
        exclude_layers=("logits", "head"),
        exclude_embeddings=False,
        name="muon",
        **kwargs,
    ):
        if isinstance(exclude_layers, str):
            raise ValueError(f"`exclude_layers` must be a list of texts. Received: exclude_layers={exclude_layers!r}")
        super().__init__(
            learning_rate,
            weight_decay=weight_decay,
            adam_weight_decay=weight_decay if adam_weight_decay is None else adam_weight_decay,
            adam_lr_ratio=adam_lr_ratio,
            exclude_layers=list(exclude_layers or ()),
            exclude_embeddings=exclude_embeddings,
            name=name,
            **kwargs,
        )

    def _should_use_adamw(self, variable):
        excluded = [*self.exclude_layers, *(["embedding"] if self.exclude_embeddings else [])]
        return len(variable.shape) < 2 or any(part in variable.path for part in excluded)

    def zeropower_via_newtonschulz5(self, x, steps):
        matrix = super().zeropower_via_newtonschulz5(ops.reshape(x, (-1, x.shape[-1])), steps)
        return ops.reshape(matrix, x.shape)

    def lr_adjust(self, x):
        return ops.reshape(super().lr_adjust(ops.reshape(x, (-1, x.shape[-1]))), x.shape)
