"""The preconditioner as optimizer state: its factors, its shift, its curvature along a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from keras_sfn import collectives, gauss_newton, kronecker, preconditioned, row_blocks, vectors
from keras_sfn import objective as objective_lib
from keras_sfn import step as step_lib

# Steps from one approximation to the next, and those of the first that have one besides.
PERIOD = 20
_EARLY = (1, 2, 4, 8)

_SAMPLES = 8

# Older samples fade by this factor at each renewal, in the first ones by less.
_DECAY = 0.8

# After a step whose first trial was too long.
_GROWTH = 2.0

_UNSET = -1.0

# Far from the seeds of the step's own random directions.
_SEED_OFFSET = 2**20


def numbers(variables: Sequence[keras.Variable]) -> int:
    """Returns how many numbers are held: moments, their eigenvectors, and new ones of both."""
    return 4 * kronecker.moments_length(kronecker.layer_blocks(variables))


class CurvatureFactors:
    """Holds moments of Gauss-Newton samples, their eigenvectors, the shift, and v'Pv / v'v.

    Args:
        variables: What is trained.
        dtype: Of the step's vectors.
        add_variable: `keras.optimizers.Optimizer.add_variable` of the optimizer.
    """

    def __init__(
        self,
        variables: Sequence[keras.Variable],
        dtype: str,
        add_variable: Callable[..., keras.Variable],
    ) -> None:
        self.blocks = kronecker.layer_blocks(variables)
        self._size = sum(block.size for block in self.blocks)
        length = kronecker.moments_length(self.blocks)
        sides = sum(side for block in self.blocks for side in block.sides)

        def add(name: str, size: int) -> keras.Variable:
            return add_variable(
                shape=(size,), dtype=dtype, aggregation="only_first_replica", name=name
            )

        self._moments = add("curvature_moments", length)
        self._eigenvectors = add("curvature_eigenvectors", length - len(self.blocks))
        self._eigenvalues = add("curvature_eigenvalues", sides + len(self.blocks))
        self._shift = add_variable(
            shape=(),
            initializer=keras.initializers.Constant(_UNSET),
            dtype=dtype,
            aggregation="only_first_replica",
            name="curvature_shift",
        )
        self._last_curvature = add_variable(
            shape=(), dtype=dtype, aggregation="only_first_replica", name="last_curvature"
        )

    def renew(
        self, loss: objective_lib.Loss, step: tf.Tensor, seed: int, jit_compile: bool
    ) -> tf.Tensor:
        """Makes the approximation anew where it is time; returns whether it was.

        Args:
            loss: Of the batch.
            step: Scalar integer, how many steps were taken.
            seed: The optimizer's.
            jit_compile: Whether XLA compiles what the samples take.

        Raises:
            ValueError: The loss has no outputs, or is of other variables.
            NotImplementedError: This is under a strategy.
        """
        if not collectives.alone():
            strategy = type(tf.distribute.get_strategy()).__name__
            raise NotImplementedError(
                "Preconditioned directions work on one device so far, without a `tf.distribute` "
                f"strategy. Received: {strategy} with {collectives.number()} replicas. Use an "
                "integer `krylov_dimension`."
            )
        if loss.space.size != self._size:
            raise ValueError(
                "The preconditioner is made for the variables that the optimizer was built with. "
                f"Received a step on {loss.space.size} of {self._size} parameters. Train all of "
                "them in each step, or make a new optimizer."
            )
        step = tf.cast(step, tf.int32)
        due = tf.equal(step % PERIOD, 0) | tf.reduce_any(tf.equal(step, _EARLY))

        def mean_moments() -> tf.Tensor:
            return self._sampled(loss, tf.stack([seed + _SEED_OFFSET, step]))

        if not tf.executing_eagerly():
            mean_moments = tf.function(mean_moments, autograph=False, jit_compile=jit_compile)

        def renewed() -> tf.Tensor:
            count = tf.cast(step, self._moments.dtype)
            kept = tf.minimum(count / (count + 1), _DECAY)
            moments = kept * self._moments.value + (1 - kept) * mean_moments()
            eigenvectors, eigenvalues = kronecker.factorise(self.blocks, moments)
            self._moments.assign(moments)
            self._eigenvectors.assign(eigenvectors)
            self._eigenvalues.assign(eigenvalues)
            return tf.constant(True)

        return tf.cond(due, renewed, lambda: tf.constant(False))

    def preconditioning(
        self, search: tf.Tensor, last_step: tf.Tensor | None
    ) -> preconditioned.Preconditioning:
        """Returns what a step needs.

        Args:
            search: Whether the approximation is new: neighbours of the shift are tried.
            last_step: Shape (n,), or None.
        """
        factors = self._factors()
        largest = factors.largest()
        # Without any curvature every shift gives the direction of the gradient.
        first = tf.where(largest > 0, preconditioned.FIRST_SHIFT * largest, 1)
        shift = tf.where(self._shift.value < 0, first, self._shift.value)
        curvature = tf.convert_to_tensor(self._last_curvature)
        if last_step is not None:
            curvature, _ = row_blocks.at_most_once(
                search,
                lambda _, vector: _curvature_along(factors, vector),
                curvature,
                last_step,
            )
        return preconditioned.Preconditioning(
            factors.solve, factors.multiply, curvature, shift, search
        )

    def keep(self, result: step_lib.StepResult) -> None:
        """Remembers the shift of a step, if there was any curvature, and P's curvature along it.

        Args:
            result: Of the step.
        """
        shift = result.shift
        following = tf.where(result.too_long, _GROWTH * shift, shift)
        known = result.finite & (self._factors().largest() > 0)
        self._shift.assign(tf.where(known, following, self._shift.value))
        # The basis is orthonormal in the inner product of P + shift.
        norm = vectors.norm(result.step)
        curvature = tf.maximum(tf.math.divide_no_nan(result.norm, norm) ** 2 - shift, 0)
        known = result.accepted & tf.math.is_finite(curvature)
        self._last_curvature.assign(tf.where(known, curvature, self._last_curvature.value))

    def _factors(self) -> kronecker.Preconditioner:
        return kronecker.Preconditioner(
            self.blocks, self._eigenvectors.value, self._eigenvalues.value
        )

    def _sampled(self, loss: objective_lib.Loss, seed: tf.Tensor) -> tf.Tensor:
        values = loss.space.values()
        shape = (kronecker.moments_length(self.blocks),)

        def body(index: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # Below the seeds that one sample takes.
            own = seed * tf.constant([1, 2**10]) + tf.stack([index, 0])

            def compute(part: objective_lib.Objective) -> tf.Tensor:
                return kronecker.moments(self.blocks, gauss_newton.sample(part, values, own))

            return index + 1, total + loss.over_parts(compute, shape)

        start = (tf.constant(0), tf.zeros(shape, loss.space.dtype))
        return (
            tf.while_loop(lambda index, _: index < _SAMPLES, body, start, parallel_iterations=1)[1]
            / _SAMPLES
        )


def _curvature_along(
    factors: kronecker.Preconditioner, vector: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns v'Pv / v'v, and the product."""
    product = factors.multiply(vector, tf.zeros((), vector.dtype))
    square = vectors.dot(vector, vector)
    return tf.math.divide_no_nan(vectors.dot(vector, product), square), product
