"""A Keras callback that writes the Hessian's spectrum to TensorBoard as training goes on."""

from __future__ import annotations

import math
import os
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from keras_sfn import callbacks, validation
from keras_sfn.curvature import operator as operator_lib
from keras_sfn.curvature import spectral_density, spectrum_checks

# What TensorBoard's page of histograms knows its data by.
_HISTOGRAMS = "histograms"
_BUCKETS = 100


class SpectrumLogger(keras.callbacks.Callback):
    """Writes the spectrum of the Hessian on fixed rows before training and every few epochs.

    Works with every optimizer. A spectrum takes `num_steps` times `num_probes` products, about two
    gradients of the rows each. The step in TensorBoard is the number of epochs done:

    - `spectrum/eigenvalues`: a histogram of the number of eigenvalues, by
      `keras_sfn.spectral_density`;
    - `spectrum/smallest`, `spectrum/largest`: the extreme nodes, from inside of the extreme
      eigenvalues; loss per parameter squared;
    - `spectrum/negative`: the estimated fraction of eigenvalues below -0.001 times the largest
      absolute node, beyond what is zero to the resolution of the quadrature.

    Where the loss is not finite nothing is written, and a line of the log says so.

    Example:
    >>> model.fit(x, y, epochs=20, callbacks=[keras_sfn.SpectrumLogger("logs", x[:512], y[:512])])

    Args:
        log_dir: Folder for TensorBoard's files.
        x: The rows, one batch of inputs as `fit` takes them.
        y: Their targets.
        sample_weight: Weights of the rows, or None.
        training: Whether layers run in training mode (dropout, batch statistics).
        epoch_freq: Integer >= 1, epochs from one spectrum to the next.
        num_steps: As in `keras_sfn.spectral_density`.
        num_probes: As in `keras_sfn.spectral_density`.
        seed: As in `keras_sfn.spectral_density`; the same vectors at each spectrum.

    Raises:
        ValueError: A number is out of range; or, when training begins, the rows do not fit the
            model.
        ImportError: TensorBoard is not installed.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        x: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        training: bool = True,
        epoch_freq: int = 1,
        num_steps: int | None = None,
        num_probes: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        callbacks.require_tensorboard(log_dir)
        validation.boolean("training", training)
        validation.integer_at_least("epoch_freq", epoch_freq, 1)
        validation.integer_at_least("num_steps", num_steps, 1, optional=True)
        validation.integer_at_least("num_probes", num_probes, 1)
        validation.integer_at_least("seed", seed, 0)
        self.log_dir = log_dir
        self.epoch_freq = epoch_freq
        self._rows = x, y, sample_weight
        self._training = training
        self._num_steps = num_steps
        self._num_probes = num_probes
        self._seed = seed
        self._hessian: operator_lib.HessianOperator | None = None
        self._file: Any = None
        self._is_first = True

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Prepares the products and opens the file."""
        self._hessian = operator_lib.HessianOperator.from_model(
            self.model, *self._rows, training=self._training
        )
        if self._num_steps is not None:
            spectrum_checks.check_steps(self._num_steps, self._hessian.shape[0])
        self._file = tf.summary.create_file_writer(os.fspath(self.log_dir))
        self._is_first = True

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes the spectrum before training, or where it is taken up again."""
        if self._is_first:
            self._is_first = False
            self._write(epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes the spectrum after every `epoch_freq` epochs."""
        if (epoch + 1) % self.epoch_freq == 0:
            self._write(epoch + 1)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the file."""
        self._file.close()
        self._hessian = self._file = None

    def _write(self, step: int) -> None:
        assert self._hessian is not None
        loss = float(self._hessian.loss())
        if not math.isfinite(loss):
            logging.warning("No spectrum after %d epochs: the loss of the rows is %s.", step, loss)
            return
        spectrum = spectral_density.spectral_density(
            self._hessian,
            num_steps=self._num_steps,
            num_probes=self._num_probes,
            seed=self._seed,
        )
        nodes = spectrum.nodes
        threshold = -1e-3 * float(np.abs(nodes).max())
        with self._file.as_default(step):
            tf.summary.scalar("spectrum/smallest", nodes.min())
            tf.summary.scalar("spectrum/largest", nodes.max())
            tf.summary.scalar("spectrum/negative", spectrum.fraction_below(threshold).value)
            tf.summary.write(
                "spectrum/eigenvalues",
                _buckets(spectrum, self._hessian.shape[0]),
                metadata=_histogram_metadata(),
            )
        self._file.flush()


def _buckets(spectrum: spectral_density.SpectralDensity, size: int) -> np.ndarray:
    """Returns left edge, right edge and number of eigenvalues of each bucket."""
    nodes = spectrum.nodes
    counts, edges = np.histogram(nodes, bins=_BUCKETS, weights=spectrum.weights * size / len(nodes))
    return np.stack([edges[:-1], edges[1:], counts], axis=1)


def _histogram_metadata() -> Any:
    # `tf.summary.histogram` takes single values, and a weight each cannot be given.
    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = _HISTOGRAMS
    return metadata
