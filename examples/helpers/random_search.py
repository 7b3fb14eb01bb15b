"""Minibatch SGD with momentum, tuned by random search.

Every draw trains the same network from the same weights for the same number of epochs, each epoch
in one function that XLA compiles once a batch size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

# What a draw is drawn from. Momentum makes a step 1 / (1 - momentum) times as long, so that the
# product of both, `EFFECTIVE_RATE`, is what has a range; all but the lists are uniform in the log.
EFFECTIVE_RATE = (0.03, 10.0)
MOMENTUM = (0.0, 0.5, 0.9, 0.95, 0.99)
BATCH_SIZE = (5, 10, 20, 50, 100, 200)
# By the last epoch the learning rate has fallen, geometrically, to this part of the first.
DECAY = (1e-3, 1.0)


class Draw(NamedTuple):
    """Settings of one run of SGD.

    Attributes:
        learning_rate: In the first epoch.
        momentum: In 0..1.
        batch_size: Rows a step.
        decay: The learning rate of the end over that of the start.
    """

    learning_rate: float
    momentum: float
    batch_size: int
    decay: float


def draws(count: int, rows: int, seed: int) -> list[Draw]:
    """Returns so many draws; the first ones are the same whatever `count` is."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        momentum = float(rng.choice(MOMENTUM))
        rate = _log_uniform(rng, *EFFECTIVE_RATE) * (1 - momentum)
        batch_size = min(int(rng.choice(BATCH_SIZE)), rows)
        found.append(Draw(rate, momentum, batch_size, _log_uniform(rng, *DECAY)))
    return found


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


class Trainer:
    """Runs draws on one network and one data set.

    Args:
        model: Its weights now are where every draw starts.
        inputs: Shape (rows, features).
        labels: Shape (rows,), integers.
    """

    def __init__(self, model: keras.Model, inputs: np.ndarray, labels: np.ndarray) -> None:
        self._model = model
        self._start = model.get_weights()
        self._inputs, self._labels = tf.constant(inputs), tf.constant(labels)
        self._epochs: dict[int, Callable[..., list[list[tf.Tensor]]]] = {}

    def run(
        self, draw: Draw, epochs: int, every: int, seed: int
    ) -> tuple[list[list[np.ndarray]], list[float]]:
        """Trains with one draw.

        Args:
            draw: The settings.
            epochs: Length of the run; it ends early where weights are no longer finite.
            every: Epochs from one record to the next.
            seed: Of the order of rows.

        Returns:
            The weights before the first and after every so many epochs, and the seconds of training
            until then, without those of compilation.
        """
        rng = np.random.default_rng(seed)
        weights = [tf.constant(array) for array in self._start]
        velocities = [tf.zeros_like(array) for array in weights]
        epoch_fn = self._epoch(draw.batch_size)
        recorded, seconds, spent = [self._start], [0.0], 0.0
        for epoch in range(1, epochs + 1):
            rate = draw.learning_rate * draw.decay ** ((epoch - 1) / epochs)
            order = tf.constant(rng.permutation(len(self._labels)), tf.int32)
            start = time.perf_counter()
            weights, velocities = epoch_fn(
                weights,
                velocities,
                order,
                tf.constant(rate, tf.float32),
                tf.constant(draw.momentum, tf.float32),
            )
            arrays = [array.numpy() for array in weights]
            spent += time.perf_counter() - start
            if epoch % every == 0:
                recorded.append(arrays)
                seconds.append(spent)
            if not all(np.isfinite(array).all() for array in arrays):
                break
        return recorded, seconds

    def _epoch(self, batch_size: int) -> Callable[..., list[list[tf.Tensor]]]:
        if batch_size in self._epochs:
            return self._epochs[batch_size]

        @tf.function(jit_compile=True, autograph=False)
        def epoch(
            weights: Sequence[tf.Tensor],
            velocities: Sequence[tf.Tensor],
            order: tf.Tensor,
            rate: tf.Tensor,
            momentum: tf.Tensor,
        ) -> list[list[tf.Tensor]]:
            def body(
                index: tf.Tensor, weights: list[tf.Tensor], velocities: list[tf.Tensor]
            ) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
                rows = tf.slice(order, [index * batch_size], [batch_size])
                gradients = self._gradients(weights, rows)
                velocities = [
                    momentum * velocity - rate * gradient
                    for velocity, gradient in zip(velocities, gradients, strict=True)
                ]
                weights = [w + v for w, v in zip(weights, velocities, strict=True)]
                return index + 1, weights, velocities

            batches = len(self._labels) // batch_size
            loop = (tf.constant(0), list(weights), list(velocities))
            return list(tf.while_loop(lambda index, *_: index < batches, body, loop)[1:])

        # Compiled here, at zero steps' cost to the weights, so that no draw pays for it.
        zeros = [tf.zeros_like(array) for array in self._start]
        order = tf.range(len(self._labels))
        epoch(zeros, zeros, order, tf.constant(0.0), tf.constant(0.0))
        self._epochs[batch_size] = epoch
        return epoch

    def _gradients(self, weights: list[tf.Tensor], rows: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            logits, _ = self._model.stateless_call(weights, [], tf.gather(self._inputs, rows))
            labels = tf.gather(self._labels, rows)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        gradients: list[tf.Tensor] = tape.gradient(loss, weights)
        return gradients
