"""How a step runs under a `tf.distribute` strategy: once, with sums over the replicas inside.

TensorFlow cannot sum over replicas from a replica's own code inside a loop. So the whole step
leaves the replicas once, by `once`, and goes back to them for each evaluation: `run` of the local
part, then `total`. What the step decides (damping, rejection) it decides from these sums, once for
all replicas of a process, and alike in every process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def number() -> int:
    """Returns how many replicas train together under the strategy in force."""
    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def alone() -> bool:
    """Returns whether there is no strategy in force, or one that only names a device."""
    strategy = tf.distribute.get_strategy()
    return not tf.distribute.has_strategy() or isinstance(strategy, tf.distribute.OneDeviceStrategy)


def once(step: Callable[..., Any], *args: Any) -> Any:
    """Runs `step` once for all replicas, from the code that each of them runs.

    Args:
        step: Called with each of `args` regrouped: a structure of values of all replicas.
        *args: This replica's.

    Returns:
        This replica's part of what `step` returns.

    Raises:
        RuntimeError: This is no replica's code.
    """
    context = tf.distribute.get_replica_context()
    if context is None:
        raise RuntimeError(
            "A step under a `tf.distribute` strategy must be taken in the code of its replicas. "
            f"Received a call outside it, with {number()} replicas. Use `model.fit`, or call "
            "`minimize` in a function that `strategy.run` runs."
        )

    def merged(strategy: tf.distribute.Strategy, *values: Any) -> Any:
        # What is not of a replica belongs on the first one's device; TensorFlow would put sums
        # into the host's memory.
        with tf.device(strategy.extended.worker_devices[0]):
            return step(*values)

    return context.merge_call(merged, args=args)


def run(function: Callable[..., Any], *args: Any) -> Any:
    """Runs a function on each replica, from inside `once`; returns the values of all."""
    return tf.distribute.get_strategy().run(function, args=args)


def total(values: Any) -> tf.Tensor:
    """Returns the sum over all replicas of what `run` returned: one message."""
    return tf.distribute.get_strategy().reduce(tf.distribute.ReduceOp.SUM, values, axis=None)


def local(values: Any) -> tf.Tensor:
    """Returns what `run` returned for the first replica of this process."""
    return tf.distribute.get_strategy().experimental_local_results(values)[0]


def index() -> int:
    """Returns the number of the replica whose code this is, among those of all processes."""
    return int(tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group))


def agree(value: tf.Tensor) -> tf.Tensor:
    """Returns the first replica's value of what every process has computed for itself.

    A difference in the last digit would let processes decide differently and wait for each other
    for ever, and their parameters would drift apart.
    """
    strategy = tf.distribute.get_strategy()
    several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) and number() > 1
    if not several:
        return value  # One process.

    def first(own: tf.Tensor) -> tf.Tensor:
        return own if index() == 0 else tf.zeros_like(own)

    return total(run(first, value))
