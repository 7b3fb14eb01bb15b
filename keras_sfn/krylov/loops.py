"""A step of a computation that is taken or left out, without a branch."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def at_most_once(
    condition: tf.Tensor, function: Callable[..., tuple[tf.Tensor, ...]], *state: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    """Returns `function(*state)` or `state`: a loop of one round or none.

    A `tf.cond` would make XLA copy the blocks for the branch. What costs time must depend on a part
    of `state` that the function changes: XLA computes all else ahead of the loop, in any case.
    """
    rounds = tf.cast(condition, tf.int32)
    return tf.while_loop(
        lambda round_, *_: round_ < rounds,
        lambda round_, *inner: (round_ + 1, *function(*inner)),
        (tf.constant(0), *state),
    )[1:]
