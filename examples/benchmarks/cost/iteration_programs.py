"""The parts of a step as compiled functions of the same three arguments.

Each takes the point, a vector (both of shape (n,)) and the batch, so that nothing large is a
constant of a program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from benchmarks.common import deep_autoencoder
from keras_sfn.curvature import products
from keras_sfn.krylov import lanczos, vectors
from keras_sfn.objective import objective as objective_lib
from keras_sfn.objective import parameter_space
from keras_sfn.preconditioner import gauss_newton, kronecker


class Programs:
    """Functions of (point, vector, batch) for one autoencoder and batch size.

    Args:
        widths: Of the autoencoder, see `deep_autoencoder`.
        rows: Of the batch.
        jit_compile: Whether XLA compiles the functions.

    Attributes:
        arguments: A point, a seeded vector and a batch to call them with.
    """

    def __init__(self, widths: Sequence[int], rows: int, jit_compile: bool = True) -> None:
        self._model = deep_autoencoder.build(widths)
        self._space = parameter_space.ParameterSpace(self._model.trainable_variables)
        self._space.in_place = self._jit_compile = jit_compile
        self.arguments: tuple[tf.Tensor, ...] = (
            self._space.flatten(self._space.values()),
            tf.random.stateless_normal((self._space.size,), (1, 1)),
            deep_autoencoder.batch(widths, rows),
        )

    def loss(self) -> Any:
        """Returns a function to the loss, a scalar."""
        return self._compiled(lambda point, vector, batch: self._objective(batch).loss(point))

    def gradient(self) -> Any:
        """Returns a function to the gradient, shape (n,)."""
        return self._compiled(lambda point, vector, batch: self._objective(batch).gradient(point))

    def gradients(self, count: int) -> Any:
        """Returns a function that takes so many steps down the gradient, shape (n,)."""

        def loop(point: tf.Tensor, vector: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
            del vector
            objective_ = self._objective(batch)
            return tf.while_loop(
                lambda index, _: index < count,
                lambda index, here: (index + 1, here - 0.01 * objective_.gradient(here)),
                (tf.constant(0), point),
            )[1]

        return self._compiled(loop)

    def product(self) -> Any:
        """Returns a function to H times the vector, shape (n,)."""
        return self._compiled(lambda point, vector, batch: self._matvec(point, batch)(vector))

    def products(self, count: int) -> Any:
        """Returns a function that takes so many products, each of the one before, normalised.

        It gives the norm of the last product, and the last vector's product with the first: the
        least that keeps all of the loop in the program. What goes from one iteration to the next is
        the product as it is: XLA would fuse a division of it with the writing of its parts, and
        compute many of them once a part.
        """

        def loop(point: tf.Tensor, vector: tf.Tensor, batch: tf.Tensor) -> tuple[tf.Tensor, ...]:
            matvec = self._matvec(point, batch)

            def body(index: tf.Tensor, product: tf.Tensor, norm: tf.Tensor) -> tuple[Any, ...]:
                product = matvec(product / norm)
                return index + 1, product, vectors.norm(product)

            start = (tf.constant(0), vector, vectors.norm(vector))
            _, last, norm = tf.while_loop(lambda index, *_: index < count, body, start)
            return norm, tf.tensordot(last, vector, 1) / norm

        return self._compiled(loop)

    def krylov(self, count: int, reorthogonalize: bool = True) -> Any:
        """Returns a function to what the optimizer's Lanczos process makes of so many products.

        It gives the projected matrix, shape (count, count), and the norm of the residual.
        """

        def run(point: tf.Tensor, vector: tf.Tensor, batch: tf.Tensor) -> tuple[tf.Tensor, ...]:
            matvec = self._matvec(point, batch)
            result = lanczos.tridiagonalise(
                matvec, vector, count, "partial" if reorthogonalize else "none"
            )
            return result.projected, tf.norm(result.residual)

        return self._compiled(run)

    def renewal(self, samples: int, part_rows: int, probes: int, curvature_rows: int) -> Any:
        """Returns a function to what the default's preconditioner is made of, as two norms.

        All but the eigenvectors, in whose place are numbers of the vector.

        Args:
            samples: Of the Gauss-Newton matrix.
            part_rows: Of the batch, for each of them.
            probes: Products with the Hessian.
            curvature_rows: Of the batch, for these.
        """
        blocks = kronecker.layer_blocks(self._model.trainable_variables)
        sides = [side for block in blocks for side in block.sides]

        def run(point: tf.Tensor, vector: tf.Tensor, batch: tf.Tensor) -> tuple[tf.Tensor, ...]:
            part = self._objective(batch[:part_rows])
            matvec = self._matvec(point, batch[:curvature_rows])
            eigenvectors = [tf.reshape(vector[: side**2], (side, side)) for side in sides]
            moments = tf.zeros((kronecker.moments_length(blocks),), point.dtype)
            squares = tf.zeros_like(point)

            def sample(index: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, ...]:
                seed = tf.stack([index, 0])
                gradient = gauss_newton.sample(part, self._space.unflatten(point), seed)
                return index + 1, total + kronecker.moments(blocks, gradient)

            def probe(index: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, ...]:
                product = matvec(gauss_newton.signs(vector, tf.stack([index, 1])))
                return index + 1, total + kronecker.rotated(blocks, eigenvectors, product) ** 2

            start = tf.constant(0)
            _, moments = tf.while_loop(lambda index, _: index < samples, sample, (start, moments))
            _, squares = tf.while_loop(lambda index, _: index < probes, probe, (start, squares))
            return vectors.norm(moments), vectors.norm(squares)

        return self._compiled(run)

    def vector_passes(self, count: int, vectors_: int) -> Any:
        """Returns a function that halves each of so many vectors and adds the point, `count` times.

        All are read and written every time, and together they are as long as a basis, of which a
        cache holds as much or as little. It gives the first number of the last vector.
        """

        def loop(point: tf.Tensor, vector: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
            del batch
            start = (tf.constant(0), tf.tile(vector[None], (vectors_, 1)))
            return tf.while_loop(
                lambda index, _: index < count,
                lambda index, rows: (index + 1, point + 0.5 * rows),
                start,
            )[1][-1, 0]

        return self._compiled(loop)

    def _objective(self, batch: tf.Tensor) -> objective_lib.Objective:
        def loss_fn() -> tuple[tf.Tensor, tf.Tensor]:
            outputs = self._model(batch, training=True)
            return tf.reduce_mean((outputs - batch) ** 2), outputs

        return objective_lib.Objective(loss_fn, self._space)

    def _matvec(self, point: tf.Tensor, batch: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
        return products.hessian_vector_product(self._objective(batch), point)

    def _compiled(self, function: Callable[..., Any]) -> Any:
        return tf.function(function, autograph=False, jit_compile=self._jit_compile)
