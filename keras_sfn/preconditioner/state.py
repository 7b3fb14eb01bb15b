"""The preconditioner as optimizer state: its factors, its shift, its curvature along a step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from keras_sfn.backend import collectives
from keras_sfn.curvature import products
from keras_sfn.curvature import survey as survey_lib
from keras_sfn.krylov import loops, precision, vectors
from keras_sfn.newton import step as step_lib
from keras_sfn.objective import constraints, parameter_space
from keras_sfn.preconditioner import gauss_newton, kronecker, preconditioned_space

# Steps from one approximation to the next, and those of the first that have one besides.
PERIOD = 20
_EARLY = (1, 2, 4, 8)

# Of each renewal: samples of the Gauss-Newton matrix, each from a part of the rows where a part may
# stand for all, and products that tell of the Hessian's rows. A sample from fewer rows is no worse:
# most of what it errs by comes from its random vector, and together they see all rows.
SAMPLES = 4
PROBES = 4

# Older ones fade by this factor at each renewal, in the first ones by less.
_DECAY = 0.8

# Older ones that are so many times as large tell of another part of the loss surface.
_DWARFS = 1e4

# After a step whose first trial was too long.
_GROWTH = 2.0

_UNSET = -1.0

# After so many rejected steps in a row the shift goes through so many values, a hundredth each.
_PATIENCE = 3
_DECADES = 8

# Far from the seeds of the step's own random directions.
_SEED_OFFSET = 2**20


def held_numbers(variables: Sequence[keras.Variable]) -> int:
    """Returns how many numbers are held: moments, eigenvectors, curvature, and new ones of all."""
    blocks = kronecker.layer_blocks(variables)
    size = sum(block.size for block in blocks)
    return 4 * (kronecker.moments_length(blocks) + size)


class Factors(NamedTuple):
    """What a step takes from the variables: P and its shift.

    As values that a renewal hands on: in a function that XLA compiles as a whole, reads of the
    variables may come before a `tf.cond` that assigns to them, control dependencies or not.

    Attributes:
        renewed: Scalar boolean, whether the approximation was made anew in this step.
        shift: Scalar, negative where there was no curvature yet.
        curvature: Shape (n,), P's eigenvalues.
        eigenvectors: A square matrix for each rotated side.
        stride: Scalar, by how much the shifts differ that are tried where it was renewed.
    """

    renewed: tf.Tensor
    shift: tf.Tensor
    curvature: tf.Tensor
    eigenvectors: list[tf.Tensor]
    stride: tf.Tensor


class PreconditionerState:
    """Holds P and what it is made of, the shift, and v'Pv / v'v of the last step.

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
        self._constrained = constraints.any_of(variables)
        length = kronecker.moments_length(self.blocks)

        add = functools.partial(add_variable, dtype=dtype, aggregation="only_first_replica")
        self._moments = add((length,), name="curvature_moments")
        sides = [side for block in self.blocks for side in block.sides]
        self._eigenvectors = [
            add((side, side), name=f"curvature_eigenvectors_{i}") for i, side in enumerate(sides)
        ]
        self._row_squares = add((self._size,), name="curvature_row_squares")
        self._curvature = add((self._size,), name="curvature")
        unset = keras.initializers.Constant(_UNSET)
        self._shift = add((), unset, name="curvature_shift")
        self._rejections = add((), dtype="int", name="rejections_in_a_row")
        self._last_curvature = add((), name="last_curvature")

    def renew(self, loss: survey_lib.FrozenLoss, step: tf.Tensor, seed: int) -> Factors:
        """Makes the approximation anew where it is time; returns what the step needs.

        Args:
            loss: That of the step.
            step: Scalar integer, how many steps were taken.
            seed: The optimizer's.

        Raises:
            ValueError: The loss is of the parameters alone, or is of other variables.
        """
        space = loss.whole.space
        self._refuse(space)
        step = tf.cast(step, tf.int32)
        due = tf.equal(step % PERIOD, 0) | tf.reduce_any(tf.equal(step, _EARLY))
        own_seed = tf.stack([seed + _SEED_OFFSET, step])

        def mean_moments() -> tf.Tensor:
            return self._mean_moments(loss, own_seed)

        def mean_row_squares(eigenvectors: Sequence[tf.Tensor]) -> tf.Tensor:
            matvec = products.hessian_vector_product(
                loss.curvature, space.values(), loss.survey.hvp_mode
            )
            return self._mean_row_squares(matvec, eigenvectors, own_seed)

        # In eager code too: where the curvature of the loss is taken is found in a graph.
        mean_moments, mean_row_squares = (
            loss.compiled(function) for function in (mean_moments, mean_row_squares)
        )

        def renewed() -> Factors:
            return self._renew(step, mean_moments, mean_row_squares)

        factors: Factors = tf.cond(due, renewed, self.factors)
        return factors

    def factors(self) -> Factors:
        """Returns what the variables hold, where they are not renewed."""
        eigenvectors = [tf.convert_to_tensor(side) for side in self._eigenvectors]
        shift, curvature = map(tf.convert_to_tensor, (self._shift, self._curvature))
        return Factors(tf.constant(False), shift, curvature, eigenvectors, tf.ones_like(shift))

    def has_curvature(self) -> bool:
        """Whether any curvature has been found, so that P scales the directions; not in a graph."""
        return bool(self._shift.numpy() >= 0)

    def _renew(
        self,
        step: tf.Tensor,
        mean_moments: Callable[[], tf.Tensor],
        mean_row_squares: Callable[[Sequence[tf.Tensor]], tf.Tensor],
    ) -> Factors:
        count = tf.cast(step, self._moments.dtype)
        kept = tf.minimum(count / (count + 1), _DECAY)
        moments = _faded(self._moments.value, mean_moments(), kept)
        pairs = kronecker.eigenpairs(self.blocks, moments)
        eigenvectors = pairs.vectors
        kappa = kronecker.eigenvalues(self.blocks, pairs, moments)
        found = collectives.agree(mean_row_squares(eigenvectors))
        squares = _faded(self._row_squares.value, found, kept)
        squares = kronecker.evened(self.blocks, pairs.vanish, squares)
        curvature = kronecker.between(self.blocks, kappa, tf.sqrt(squares))
        self._moments.assign(moments)
        for variable, value in zip(self._eigenvectors, eigenvectors, strict=True):
            variable.assign(value)
        self._row_squares.assign(squares)
        self._curvature.assign(curvature)
        largest = tf.reduce_max(curvature)
        first = (self._shift.value < 0) & (largest > 0)
        shift = tf.where(first, preconditioned_space.FIRST_SHIFT * largest, self._shift.value)
        # Searched for again and again, it must not sink to zero.
        least = precision.epsilon(shift.dtype) * largest
        shift = tf.where(shift < 0, shift, tf.maximum(shift, least))
        self._shift.assign(shift)
        turn = tf.where(step < PERIOD, step // 2, step // PERIOD) % len(
            preconditioned_space.STRIDES
        )
        stride = tf.gather(tf.constant(preconditioned_space.STRIDES, shift.dtype), turn)
        return Factors(tf.constant(True), shift, curvature, eigenvectors, stride)

    def _refuse(self, space: parameter_space.ParameterSpace) -> None:
        if space.size != self._size:
            raise ValueError(
                "The preconditioner is made for the variables that the optimizer was built with. "
                f"Received a step on {space.size} of {self._size} parameters. Train all of "
                "them in each step, or make a new optimizer."
            )

    def shifted(
        self, factors: Factors, last_step: tf.Tensor | None, *, in_place: bool = False
    ) -> preconditioned_space.ShiftedPreconditioner:
        """Returns what a step scales its directions with.

        Args:
            factors: Of this step. Where they are new, neighbours of the shift are tried.
            last_step: Shape (n,), or None.
            in_place: As of `kronecker.Preconditioner`.
        """
        preconditioner = kronecker.Preconditioner(
            self.blocks, factors.eigenvectors, factors.curvature, in_place
        )
        # Without any curvature every shift gives the direction of the gradient.
        shift = tf.where(factors.shift < 0, tf.ones_like(factors.shift), factors.shift)
        curvature = tf.convert_to_tensor(self._last_curvature)
        if last_step is not None:
            # The sign as state: XLA would do ahead of the loop all that depends on none.
            # A step that was projected has another norm than the one that P was seen along.
            unknown = factors.renewed | self._constrained
            curvature, _ = loops.at_most_once(
                unknown,
                lambda _, sign: (_curvature_along(preconditioner, sign * last_step), -sign),
                curvature,
                tf.ones_like(curvature),
            )
        return preconditioned_space.ShiftedPreconditioner(
            preconditioner.solve,
            preconditioner.multiply,
            curvature,
            shift,
            factors.renewed,
            factors.stride,
        )

    def keep(self, factors: Factors, result: step_lib.StepResult) -> None:
        """Remembers the shift of a step, if there was any curvature, and P's curvature along it.

        Args:
            factors: Of the step.
            result: Of the step.
        """
        shift = result.shift
        following = tf.where(result.too_long, _GROWTH * shift, shift)
        largest = tf.reduce_max(factors.curvature)
        following = tf.minimum(following, largest)
        row = tf.where(result.accepted, 0, tf.cast(self._rejections.value, tf.int32) + 1)
        self._rejections.assign(tf.cast(row, self._rejections.dtype))
        decades = tf.cast(tf.math.floormod(row - _PATIENCE, _DECADES), shift.dtype)
        far = largest * 10.0 ** (-2 * decades)
        following = tf.where(row >= _PATIENCE, far, following)
        known = result.finite & (factors.shift >= 0)
        self._shift.assign(tf.where(known, following, factors.shift))
        # The basis is orthonormal in the inner product of P + shift.
        norm = vectors.norm(result.step)
        curvature = tf.maximum(tf.math.divide_no_nan(result.norm, norm) ** 2 - shift, 0)
        known = result.accepted & tf.math.is_finite(curvature)
        self._last_curvature.assign(tf.where(known, curvature, self._last_curvature.value))

    def _mean_moments(self, loss: survey_lib.FrozenLoss, seed: tf.Tensor) -> tf.Tensor:
        space = loss.whole.space
        values = space.values()

        def moments(index: tf.Tensor, own_seed: tf.Tensor) -> tf.Tensor:
            sampled = loss.whole if loss.part is None else loss.part(index, SAMPLES)
            sample = sampled.over_parts(
                loss.in_a_graph(lambda part: gauss_newton.sample(part, values, own_seed)),
                (space.size,),
            )
            sample = tf.where(tf.reduce_all(tf.math.is_finite(sample)), sample, 0)
            return kronecker.moments(self.blocks, sample)

        shape = (kronecker.moments_length(self.blocks),)
        return _mean(moments, SAMPLES, seed, shape, space.dtype)

    def _mean_row_squares(
        self,
        matvec: Callable[[tf.Tensor], tf.Tensor],
        eigenvectors: Sequence[tf.Tensor],
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Returns mean squares of U' H v over random signs v, shape (n,): those of the rows' norms.

        They are zero where a product would not be finite.
        """

        def squares(_: tf.Tensor, own_seed: tf.Tensor) -> tf.Tensor:
            # Beyond the seeds that a sample takes.
            own_seed = own_seed + tf.constant([0, 2**9])
            probe = gauss_newton.signs(tf.zeros((self._size,), self._moments.dtype), own_seed)
            product = matvec(probe)
            rotated = kronecker.rotated(self.blocks, eigenvectors, product) ** 2
            return tf.where(tf.reduce_all(tf.math.is_finite(rotated)), rotated, 0)

        return _mean(squares, PROBES, seed, (self._size,), self._moments.dtype)


def _faded(old: tf.Tensor, new: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    """Returns the mean of old and new ones; the new ones where the old ones dwarf them."""
    largest = tf.reduce_max(tf.abs(new))
    dwarfed = (largest > 0) & (tf.reduce_max(tf.abs(old)) > _DWARFS * largest)
    return tf.where(dwarfed, new, kept * old + (1 - kept) * new)


def _mean(
    compute: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    count: int,
    seed: tf.Tensor,
    shape: tuple[int, ...],
    dtype: str | tf.DType,
) -> tf.Tensor:
    """Returns the mean of `compute(index, seed)` over `count` seeds made of one."""

    def body(index: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # Below the seeds that one sample takes.
        own = seed * tf.constant([1, 2**10]) + tf.stack([index, 0])
        return index + 1, total + compute(index, own)

    start = (tf.constant(0), tf.zeros(shape, dtype))
    return (
        tf.while_loop(lambda index, _: index < count, body, start, parallel_iterations=1)[1] / count
    )


def _curvature_along(preconditioner: kronecker.Preconditioner, vector: tf.Tensor) -> tf.Tensor:
    """Returns v'Pv / v'v."""
    return tf.math.divide_no_nan(preconditioner.square(vector), vectors.dot(vector, vector))
