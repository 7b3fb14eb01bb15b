"""The spectrum of a Hessian from a few dozen products: Ritz values and the density they stand for.

Lanczos from a random vector v gives nodes t_j (Ritz values) and weights w_j (squared first
components of the eigenvectors of the small matrix) with

    sum_j w_j f(t_j)  ~  v' f(H) v / v' v,

whose mean over random v is the mean of f over the eigenvalues of H. So the weights below a number
add up to an estimate of the fraction of eigenvalues below it. The extreme Ritz values approach the
extreme eigenvalues, from inside. Of a bulk of eigenvalues around zero one node is left, on either
side of it by chance: count from a number that several nodes lie beyond.

Reference: Golub and Meurant, Matrices, Moments and Quadrature with Applications, 2010.
"""

from __future__ import annotations

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

import keras_sfn


class Spectrum(NamedTuple):
    """What Lanczos sees of a spectrum.

    Attributes:
        values: Shape (steps,), Ritz values, ascending.
        weights: Shape (steps,), not negative, add up to 1.
    """

    values: np.ndarray
    weights: np.ndarray

    def count_below(self, threshold: float) -> int:
        """Returns how many Ritz values lie below."""
        return int((self.values < threshold).sum())

    def fraction_below(self, threshold: float) -> float:
        """Returns the estimated fraction of eigenvalues below."""
        return float(self.weights[self.values < threshold].sum())


def ritz_spectrum(hessian: keras_sfn.HessianOperator, steps: int, seed: int, name: str) -> Spectrum:
    """Runs fully reorthogonalised Lanczos from a random vector.

    Args:
        hessian: The operator, n x n.
        steps: Lanczos steps, clipped to n; one product each.
        seed: Of the random vector: the same one for each spectrum that is compared.
        name: Shown before the progress bar.
    """
    size = hessian.shape[0]
    steps = min(steps, size)
    print(f"{name}: {steps} products for the spectrum", flush=True)
    bar = keras.utils.Progbar(steps, unit_name="product")

    def matvec(vector: tf.Tensor) -> tf.Tensor:
        product = hessian.matvec(vector)
        bar.add(1)
        return product

    start = tf.random.stateless_normal((size,), (seed, 0), dtype=hessian.dtype)
    small = keras_sfn.lanczos(matvec, start, steps).projected
    values, vectors = np.linalg.eigh(small.numpy().astype("float64"))
    return Spectrum(values, vectors[0] ** 2)
