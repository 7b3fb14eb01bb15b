"""What happens when steps are rejected because something was not finite: a warning, then an end.

A step that did not lower the loss is no failure: at a minimum, or on a batch of its own, it is what
should happen. (Many in a row that promise less than the rounding of the loss are told of once:
training has come as far as the precision shows.) A step whose loss, gradient, products or
candidates are NaN or infinite is one. The optimizer counts these in a variable; the counts are
looked at where Python can see them: after each call of `fit`'s train function, and in eager code
after each step. In a function that the user has compiled, an assertion in the graph takes that
place.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from keras_sfn.krylov import precision
from keras_sfn.newton import step as step_lib

# Entries of the vector of counts: steps that were not finite: all of them, those in a row, and the
# last one's outcome; and those in a row whose promise was below the rounding of the loss.
COUNTS = 4

# So many of these are told of.
_MANY_HIDDEN = 100

# `max_consecutive_rejections` of an optimizer that is not told.
MOST_IN_A_ROW = 10

_thread = threading.local()

_CAUSES = (
    "Look for NaN or infinity in the data (`np.isfinite`), for a logarithm, root or division in "
    "the loss that leaves its domain, or for weights that have grown too large"
)

_HIDDEN = (
    "The last {} steps promised to lower the loss by less than its rounding: training has come as "
    "far as this precision shows. If that is too early, scale the targets to about one, or train "
    'in float64 (`keras.config.set_floatx("float64")` before the model is made).'
)


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Says that the caller looks at the counts after the function that is traced or run inside."""
    before = is_watched()
    _thread.watched = True
    try:
        yield
    finally:
        _thread.watched = before


def is_watched() -> bool:
    """Whether this thread is inside `watched`."""
    return getattr(_thread, "watched", False)


def count(counts: tf.Tensor, result: step_lib.StepResult, loss: tf.Tensor) -> tf.Tensor:
    """Returns the counts after a step, shape (COUNTS,).

    Args:
        counts: Those before it.
        result: The step.
        loss: Scalar, before it.
    """
    outcome = tf.cast(result.outcome, counts.dtype)
    failed = tf.stack([counts[0] + 1, counts[1] + 1, outcome, 0])
    rounding = precision.epsilon(loss.dtype) * tf.abs(loss)
    # A step of averaged gradients, whose loss is not evaluated, may go up along its direction.
    promises_nothing = (result.predicted_reduction < rounding) & tf.math.is_finite(result.loss)
    hidden = tf.where(promises_nothing, counts[3] + 1, 0)
    return tf.where(result.finite, tf.stack([counts[0], 0, counts[2], hidden]), failed)


def warn_or_raise(counts: np.ndarray, limit: int | None, given: set[str]) -> None:
    """Warns of what is told of once, and raises after too many failures in a row.

    Args:
        counts: Shape (COUNTS,).
        limit: `max_consecutive_rejections`.
        given: The warnings so far, to which new ones are added.

    Raises:
        FloatingPointError: `limit` steps in a row were not finite.
    """
    total, in_a_row, outcome, hidden = counts.tolist()
    if hidden >= _MANY_HIDDEN and "hidden" not in given:
        given.add("hidden")
        warnings.warn(_HIDDEN.format(hidden), RuntimeWarning, stacklevel=3)
    if total == 0:
        return
    cause = step_lib.OUTCOMES[outcome]
    if limit is not None and in_a_row >= limit:
        raise FloatingPointError(message(limit, f"{in_a_row} (the last: {cause})"))
    if "failure" not in given:
        given.add("failure")
        warnings.warn(
            f"A step was rejected: {cause}. Parameters and statistics are left as they were; "
            "`optimizer.rejected_steps` counts on, and this is not said again. " + _CAUSES + ".",
            RuntimeWarning,
            stacklevel=3,
        )


def assert_in_graph(counts: tf.Tensor, limit: int | None) -> None:
    """Adds the end after too many failures to a graph; XLA leaves assertions out."""
    if limit is not None:
        tf.debugging.Assert(counts[1] < limit, [message(limit, "as many")])


def message(limit: int, received: str) -> str:
    """Returns the text of the error."""
    return (
        f"`max_consecutive_rejections`={limit} steps in a row were rejected because the loss, its "
        f"gradient, a Hessian-vector product or every candidate was not finite. Received: "
        f"{received}. The parameters are those before these steps. {_CAUSES}; set "
        "`optimizer.max_consecutive_rejections` higher, or to None, to go on all the same."
    )
