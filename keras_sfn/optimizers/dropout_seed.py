"""The seed from which dropout draws, as optimizer state.

Keras saves no seed generators: with another optimizer, a model that is loaded draws other masks
than it would have. Here the seed of the first generator is remembered, so that
`keras.utils.set_random_seed` and the `seed` of a layer have the effect they should, and every step
draws from this seed and the number of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

_UNSET = -1

# Seeds of one generator in one step, of which a pass draws one for each use of the generator.
_SEEDS_A_STEP = 1024


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

    def of_step(self, generators: Sequence[keras.Variable], step: tf.Tensor) -> tf.Tensor | None:
        """Returns the seed from which the generators of a loss draw in one step, shape (2,).

        Args:
            generators: States of the generators, in the order in which the loss uses them.
            step: Scalar integer, how many steps were taken.

        Returns:
            The seed, or None where there are no generators.
        """
        if not generators:
            return None
        seed = tf.convert_to_tensor(self._seed)
        first = tf.convert_to_tensor(generators[0])[0]
        seed = tf.where(seed < 0, tf.cast(first, seed.dtype), seed)
        self._seed.assign(seed)
        return tf.stack([seed, _SEEDS_A_STEP * tf.cast(step, seed.dtype)])
