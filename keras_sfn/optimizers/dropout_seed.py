"""The seed from which dropout draws, as optimizer state.

Keras saves no seed generators: with another optimizer, a model that is loaded draws other masks
than it would have. Here the seed of the first generator is remembered, so that
`keras.utils.set_random_seed` and the `seed` of a layer have the effect they should, and every step
draws from this seed and the number of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import keras
import tensorflow as tf

from keras_sfn.objective import objective as objective_lib

_UNSET = -1

# Seeds of one generator in one step, of which a pass draws one for each use of the generator.
_SEEDS_A_STEP = 1024


class Seeded(Protocol):
    """What is evaluated with seeds of its own."""

    def reseed(self, seed: tf.Tensor) -> None:
        """See `objective.Objective.reseed`."""


class DropoutSeed:
    """Holds the seed.

    Args:
        add_variable: `keras.optimizers.Optimizer.add_variable` of the optimizer.
    """

    def __init__(self, add_variable: Callable[..., keras.Variable]) -> None:
        self._seed = add_variable(
            shape=(),
            initializer=keras.initializers.Constant(_UNSET),
            dtype="int64",
            aggregation="only_first_replica",
            name="dropout_seed",
        )

    def set(
        self, loss: objective_lib.Loss, others: Sequence[Seeded | None], step: tf.Tensor
    ) -> None:
        """Lets the generators in the losses of a step draw from the seed.

        Args:
            loss: Its generators are looked at, at the first step.
            others: Those of the same model, or None.
            step: Scalar integer, how many steps were taken.
        """
        generators = loss.seed_generators
        if not generators:
            return
        seed = tf.convert_to_tensor(self._seed)
        first = tf.convert_to_tensor(generators[0])[0]
        seed = tf.where(seed < 0, tf.cast(first, seed.dtype), seed)
        self._seed.assign(seed)
        count = _SEEDS_A_STEP * tf.cast(step, seed.dtype)
        for each in (loss, *others):
            if each is not None:
                each.reseed(tf.stack([seed, count]))
