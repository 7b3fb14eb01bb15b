"""How a step runs under a `tf.distribute` strategy: once, with sums over the replicas inside.

TensorFlow cannot sum over replicas from a replica's own code inside a loop. So the whole step
leaves the replicas once, by `once`, and goes back to them for each evaluation: `run` of the local
part, then `total`. What the step decides (damping, rejection) it decides from these sums, once for
all replicas of a process, and alike in every process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def shared(
    tasks: Sequence[Callable[[], Sequence[tf.Tensor]]],
    costs: Sequence[float],
    shapes: Sequence[Sequence[Any]],
    dtype: Any,
) -> list[Sequence[tf.Tensor]]:
    """Returns what the tasks give; each replica does some of them, and one message joins them.

    Args:
        tasks: () -> tensors.
        costs: Of each task, in a common unit.
        shapes: Of the tensors of each task.
        dtype: Of all of them.
    """
    if number() == 1 or not tasks:
        return [task() for task in tasks]
    owners = balanced(costs, number())

    def own() -> tf.Tensor:
        parts = []
        for task, owner, like in zip(tasks, owners, shapes, strict=True):
            mine = owner == index()
            tensors = task() if mine else [tf.zeros(shape, dtype) for shape in like]
            parts += [tf.reshape(tensor, (-1,)) for tensor in tensors]
        return tf.concat(parts, axis=0)

    flat = [tf.TensorShape(shape) for like in shapes for shape in like]
    pieces = iter(tf.split(total(run(own)), [shape.num_elements() for shape in flat]))
    return [[tf.reshape(next(pieces), shape) for shape in like] for like in shapes]


def balanced(costs: Sequence[float], owners: int) -> list[int]:
    """Returns which of so many owners does each task: the dearest first, to the least busy.

    Args:
        costs: Of each task.
        owners: How many there are.
    """
    busy, chosen = [0.0] * owners, [0] * len(costs)
    for task in sorted(range(len(costs)), key=lambda task: -costs[task]):
        owner = min(range(owners), key=lambda owner: busy[owner])
        busy[owner] += costs[task]
        chosen[task] = owner
    return chosen


def gathered(value: tf.Tensor) -> tf.Tensor:
    """Returns what each replica's process has, shape (replicas, ...), from outside of them."""

    def place() -> tf.Tensor:
        row = tf.one_hot(index(), number(), dtype=value.dtype)
        return tf.tensordot(row, value, axes=0)

    return total(run(place))


def meets_others(function: Callable[[], Any]) -> bool:
    """Returns whether a function of a replica's code sums over the replicas by itself.

    Where it cannot be traced, it is taken to do so.

    Args:
        function: () -> anything that a `tf.function` may return. Called in that replica's code.
    """
    try:
        tf.function(function, autograph=False).get_concrete_function()
    except RuntimeError as error:
        # What TensorFlow says of such a sum in a graph of its own.
        if "merge_call" in str(error):
            return True
        raise
    except (AttributeError, tf.errors.OperatorNotAllowedInGraphError):
        return True
    return False


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
