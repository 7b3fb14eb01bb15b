"""Four training problems on which first-order optimizers crawl.

Rows are the same whatever the seed; only the weights differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import sklearn.datasets

from benchmarks.common import adding_data
from benchmarks.common import task as task_lib
from benchmarks.time_to_loss import poisson_network
from helpers import autoencoder_network, image_data

CELLS = {
    "rnn": keras.layers.SimpleRNN,
    "lstm": keras.layers.LSTM,
    "gru": keras.layers.GRU,
}


def digits_autoencoder(
    hidden: Sequence[int] = (256, 128, 64, 10), rows: int | None = None
) -> task_lib.Task:
    """Returns the deep tanh autoencoder of scikit-learn's 1,797 digits, code and output linear.

    Args:
        hidden: Widths down to the code.
        rows: Only so many digits; None for all.
    """
    pixels = sklearn.datasets.load_digits().data[:rows].astype(np.float32) / 16

    def build(seed: int) -> keras.Model:
        return autoencoder_network.build_autoencoder(
            pixels.shape[1], hidden, "tanh", "glorot_uniform", seed
        )

    return task_lib.Task("digits_autoencoder", pixels, pixels, build)


def fashion_autoencoder(
    hidden: Sequence[int] = (1000, 500, 250, 30),
    rows: int | None = None,
    data_dir: str | None = None,
    download: bool = False,
) -> task_lib.Task:
    """Returns the paper's deep autoencoder on fashion_mnist: tanh, linear code, sigmoid output.

    Args:
        hidden: Widths down to the code.
        rows: Only so many images; None for all 60,000.
        data_dir: Where prepared sets lie; None for TFDS's own default.
        download: Whether the set may be fetched over the network.

    Raises:
        SystemExit: The set is not there and cannot be fetched; one line says what to do.
    """
    images = image_data.load_images("fashion_mnist", "train", data_dir=data_dir, download=download)[
        :rows
    ]
    pixels = images.reshape(len(images), -1)

    def build(seed: int) -> keras.Model:
        return autoencoder_network.build_autoencoder(
            pixels.shape[1], hidden, "tanh", "glorot_uniform", seed, output_activation="sigmoid"
        )

    return task_lib.Task("fashion_autoencoder", pixels, pixels, build)


def adding(length: int = 50, units: int = 64, rows: int = 2000, cell: str = "rnn") -> task_lib.Task:
    """Returns the adding problem: a recurrent net sums the two marked of `length` numbers.

    A net that ignores its input and says 1 has the error 1/6 = 0.167; to do better it must keep the
    first number for up to `length` steps. Weights start as Keras's own do: an orthogonal recurrent
    matrix, which keeps a signal's norm over the steps but for what tanh takes from it, and Glorot's
    uniform input weights.

    Args:
        length: Steps of a sequence, at least 2.
        units: Of the recurrent layer.
        rows: Number of sequences, a fixed set.
        cell: One of `CELLS`; `"rnn"` has tanh units and no gates.

    Reference:
        Hochreiter and Schmidhuber, Long short-term memory, 1997; with one mark in each half as in
        Le, Jaitly and Hinton, https://arxiv.org/abs/1504.00941.
    """
    inputs, targets = adding_data.sequences(length, rows, seed=0)

    def build(seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        layers = [keras.Input((length, 2)), CELLS[cell](units), keras.layers.Dense(1)]
        return keras.Sequential(layers)

    return task_lib.Task("adding", inputs, targets, build)


def poisson(rows: int = 1500, hidden: Sequence[int] = (32, 32, 32)) -> task_lib.Task:
    """Returns the physics-informed network of `poisson_network`, in float64.

    Args:
        rows: Random points of the interior where the residual is taken.
        hidden: Widths of the tanh layers.
    """
    points = poisson_network.interior_points(rows, seed=0)

    def build(seed: int) -> keras.Model:
        if keras.config.floatx() != "float64":
            raise ValueError(
                "The task `poisson` needs float64 as Keras's default. Received: "
                f"{keras.config.floatx()}. Call `task.set_precision()` before `task.build`."
            )
        keras.utils.set_random_seed(seed)
        return poisson_network.PoissonNetwork(hidden)

    def error(network: Any) -> float:
        return poisson_network.relative_error(network)

    zeros = np.zeros((rows, 1))
    return task_lib.Task("poisson", points, zeros, build, "relative L2 error of u", error)
