"""Averages of gradients of noisy batches, and the direction that they give, as optimizer state.

Gradients of batches that are mostly noise tell of the curvature by themselves: their covariance is
near the Gauss-Newton matrix over the number of rows. So no samples are made. G G' and G' G of a
layer's gradients, averaged, have the eigenvectors; the mean squares v of the gradient in their
basis scale the mean gradient m:

    d = -U m / sqrt(v)

This is Adam in the eigenbasis of Shampoo. How far to go along d is found by Hessian-vector products
(`newton.lengths`).

References: Vyas et al., SOAP: improving and stabilizing Shampoo using Adam, 2024,
https://arxiv.org/abs/2409.11321; Gupta, Koren and Singer, Shampoo, 2018,
https://arxiv.org/abs/1802.09568; George et al., 2018, https://arxiv.org/abs/1806.03884.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from keras_sfn.newton import lengths
from keras_sfn.objective import parameter_space
from keras_sfn.preconditioner import kronecker

# How old gradients, their squares and their products fade in a step.
MEAN_FADING = 0.9
SQUARE_FADING = 0.95
PRODUCT_FADING = 0.95

# Products take as long as the rotations of a gradient: after the first steps they are of one
# gradient in so many.
_ALL_PRODUCTS = 10
_PRODUCTS_PERIOD = 4

# Steps from one basis to the next, and those of the first that have one besides.
PERIOD = 20
_EARLY = (1, 2, 4, 8)

# What the roots of v are at least, as a part of their mean in the layer: along coordinates where
# rounding is all that there is, a step would be of full length.
_LEAST = 1e-4


class Values(NamedTuple):
    """What the variables hold.

    Attributes:
        count: Scalar, gradients in the averages.
        mean: Shape (n,), of the gradients in the basis, without a correction for the start.
        squares: Shape (n,), of their squares there, likewise.
        products: G G' and G' G of all rotated sides, and traces, as `kronecker.moments` gives them.
        eigenvectors: A square matrix for each rotated side; unit matrices at first.
        vanish: As of `kronecker.Eigenpairs`, of the products from which the eigenvectors are.
        direction: Shape (n,), that of the last step.
        mean_point: Shape (n,), of the parameters of the last steps; a runaway goes back to it.
        lengths: State of the length, a vector.
    """

    count: tf.Tensor
    mean: tf.Tensor
    squares: tf.Tensor
    products: tf.Tensor
    eigenvectors: list[tf.Tensor]
    vanish: tf.Tensor
    direction: tf.Tensor
    mean_point: tf.Tensor
    lengths: tf.Tensor


class Averages:
    """Holds the averages, the last direction, the mean point and the state of the length.

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
        size = sum(block.size for block in self.blocks)

        add = functools.partial(add_variable, dtype=dtype, aggregation="only_first_replica")
        sides = [side for block in self.blocks for side in block.sides]
        self._variables = Values(
            count=add((), name="gradient_count"),
            mean=add((size,), name="gradient_mean"),
            squares=add((size,), name="gradient_squares"),
            products=add((kronecker.moments_length(self.blocks),), name="gradient_products"),
            eigenvectors=[
                add((side, side), keras.initializers.Identity(), name=f"gradient_eigenvectors_{i}")
                for i, side in enumerate(sides)
            ],
            vanish=add((len(sides),), dtype="int32", name="gradient_vanish"),
            direction=add((size,), name="direction"),
            mean_point=add((size,), name="mean_point"),
            lengths=add((len(lengths.INITIAL),), name="lengths"),
        )

    def read(self) -> Values:
        """Returns what the variables hold."""
        read: Values = tf.nest.map_structure(tf.convert_to_tensor, self._variables)
        return read

    def keep(self, values: Values) -> None:
        """Assigns what a step leaves behind, with a new basis for the next step where it is time.

        Outside XLA, whose eigenvectors take many times as long. The mean squares are not known in
        the new basis; those of the old one stand for them, as in SOAP: bases change slowly. Square
        matrices, which are most of the numbers, are assigned only where they have changed.

        Args:
            values: New ones, or those of before.
        """
        count = tf.cast(values.count, tf.int32)
        since = count - 1
        renewal = tf.equal(since % PERIOD, 0) | tf.reduce_any(tf.equal(since, _EARLY))

        def renewed() -> tf.Tensor:
            eigenvectors, _, vanish = kronecker.eigenpairs(self.blocks, values.products)
            self._variables.vanish.assign(vanish)
            mean = kronecker.rotated_back(self.blocks, values.eigenvectors, values.mean)
            for variable, matrix in zip(self._variables.eigenvectors, eigenvectors, strict=True):
                variable.assign(matrix)
            return kronecker.rotated(self.blocks, eigenvectors, mean)

        def multiplied() -> tf.Tensor:
            self._variables.products.assign(values.products)
            return values.count

        mean = tf.cond(renewal, renewed, lambda: values.mean)
        count = tf.cond(_products_are_due(values.count), multiplied, lambda: values.count)
        kept = values._replace(mean=mean, count=count)
        for name in ("count", "mean", "squares", "direction", "mean_point", "lengths"):
            getattr(self._variables, name).assign(getattr(kept, name))

    def end(self, space: parameter_space.ParameterSpace) -> None:
        """Moves the parameters to the mean point at the end of a training, where that is better.

        Args:
            space: What is trained.
        """
        state = lengths.State(*tf.unstack(self._variables.lengths.value))
        if not lengths.ends_at_mean_point(state):
            return
        for variable, value in zip(
            space.variables, space.unflatten(self._variables.mean_point.value), strict=True
        ):
            variable.assign(value)
        self._variables.lengths.assign(tf.stack(state._replace(since=tf.zeros_like(state.since))))


def chosen(going: tf.Tensor, after: Values, before: Values) -> Values:
    """Returns the values after a step, or those before it where the step is not taken.

    Args:
        going: Scalar boolean, whether it is.
        after: Their eigenvectors are those of before.
        before: The others.
    """

    def either(name: str) -> tf.Tensor:
        return tf.where(going, getattr(after, name), getattr(before, name))

    return before._replace(
        count=either("count"),
        mean=either("mean"),
        squares=either("squares"),
        direction=either("direction"),
        # Larger than the others together: no copy.
        products=tf.cond(going, lambda: after.products, lambda: before.products),
    )


def mean_point(values: Values, here: tf.Tensor, state: lengths.State, away: tf.Tensor) -> tf.Tensor:
    """Returns the mean point with one more point.

    Args:
        values: Before.
        here: Shape (n,), the point.
        state: Of the length, after the step.
        away: Whether the loss ran away there: then it does not count.
    """
    number = tf.clip_by_value(state.steps, 1, lengths.MEAN_OF)
    return (
        values.mean_point + tf.where(away, tf.zeros_like(here), here - values.mean_point) / number
    )


def held_numbers(variables: Sequence[keras.Variable]) -> int:
    """Returns how many numbers are held, and made anew in a step."""
    blocks = kronecker.layer_blocks(variables)
    size = sum(block.size for block in blocks)
    sides = sum(len(block.sides) for block in blocks)
    return 4 * size + 3 * kronecker.moments_length(blocks) + sides + len(lengths.INITIAL) + 1


def following(blocks: Sequence[kronecker.Block], values: Values, gradient: tf.Tensor) -> Values:
    """Returns the averages with one more gradient, and the direction that they give.

    Args:
        blocks: The layers.
        values: Before.
        gradient: Shape (n,).
    """
    count = values.count + 1
    settled = count > _ALL_PRODUCTS
    fading = tf.where(settled, PRODUCT_FADING**_PRODUCTS_PERIOD, PRODUCT_FADING)
    kept = tf.minimum((count - 1) / count, tf.cast(fading, count.dtype))
    products = tf.cond(
        _products_are_due(count),
        lambda: kept * values.products + (1 - kept) * kronecker.moments(blocks, gradient),
        lambda: values.products,
    )
    rotated = kronecker.rotated(blocks, values.eigenvectors, gradient)
    mean = MEAN_FADING * values.mean + (1 - MEAN_FADING) * rotated
    squares = SQUARE_FADING * values.squares + (1 - SQUARE_FADING) * rotated**2
    squares = kronecker.evened(blocks, values.vanish, squares)
    roots = tf.sqrt(squares / (1 - SQUARE_FADING**count))
    floors = [
        tf.fill(
            (block.size,),
            _LEAST * tf.reduce_mean(roots[block.start : block.start + block.size]),
        )
        for block in blocks
    ]
    scale = tf.math.reciprocal_no_nan(tf.maximum(roots, tf.concat(floors, axis=0)))
    unbiased = mean / (1 - MEAN_FADING**count)
    direction = -kronecker.rotated_back(blocks, values.eigenvectors, scale * unbiased)
    return values._replace(
        count=count, mean=mean, products=products, squares=squares, direction=direction
    )


def _products_are_due(count: tf.Tensor) -> tf.Tensor:
    """Returns whether the averages of products have the last gradient in them.

    Args:
        count: Scalar, gradients with it.
    """
    return (count <= _ALL_PRODUCTS) | tf.equal(tf.cast(count, tf.int32) % _PRODUCTS_PERIOD, 0)
