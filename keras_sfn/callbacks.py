"""A Keras callback that shows what the steps do."""

from __future__ import annotations

import importlib.util
from typing import Any

import keras
import tensorflow as tf

from keras_sfn import base_optimizer, validation
from keras_sfn import last_step as last_step_lib

# Names in `logs` and in TensorBoard, in this order; attributes of `LastStep`.
FIGURES = (
    "damping",
    "ritz_min",
    "ritz_max",
    "gradient_norm",
    "step_norm",
    "reduction_ratio",
    "rejected_steps",
)


class CurvatureLogger(keras.callbacks.Callback):
    """Adds figures of the steps to the logs: progress bar, `History`, `CSVLogger`, TensorBoard.

    Names in the logs, each that of the last step (there is no mean over an epoch):

    - `damping`: added to each absolute Ritz value; in units of curvature, loss per parameter
      squared.
    - `ritz_min`, `ritz_max`: extreme Ritz values, estimates of the extreme eigenvalues of the
      Hessian of the (curvature) batch; same units. NaN where the step was not finite.
    - `gradient_norm`: Euclidean norm of the gradient; loss per parameter.
    - `step_norm`: Euclidean norm of the step in the parameters; 0 where it was rejected.
    - `reduction_ratio`: actual over predicted reduction of the loss of the batch, without unit: 1
      where the quadratic model is right, 0 where the step was rejected.
    - `rejected_steps`: how many steps were rejected since the optimizer was built.

    A callback sees what callbacks before it have put into the logs: pass this one before
    `CSVLogger`, `TensorBoard` and any other that should see it, as with Keras's own
    `LearningRateScheduler`. The progress bar and `History` always come last.

    Example:
    >>> model.fit(x, y, callbacks=[keras_sfn.CurvatureLogger("logs"),
    ...                            keras.callbacks.CSVLogger("steps.csv")])

    Args:
        log_dir: Where to write TensorBoard scalars and a histogram of the Ritz values, under the
            name `curvature/...` and the number of the step; None writes none.
        update_freq: Integer >= 1. The figures of every so many-th batch are read, added to the logs
            and written; an epoch's logs always have those of its last step. With
            `steps_per_execution` only the last step of each execution can be seen.

    Raises:
        ValueError: `update_freq` is no integer >= 1, or, when training begins, the model's
            optimizer is not one of this package.
        ImportError: `log_dir` is given and TensorBoard is not installed.
    """

    def __init__(self, log_dir: str | None = None, update_freq: int = 1) -> None:
        super().__init__()
        validation.integer_at_least("update_freq", update_freq, 1)
        if log_dir is not None and importlib.util.find_spec("tensorboard") is None:
            raise ImportError(
                f"`log_dir` needs TensorBoard. Received: log_dir={log_dir!r}, and the package is "
                "not installed. Run `pip install tensorboard`, or leave `log_dir` at None."
            )
        self.log_dir = log_dir
        self.update_freq = update_freq
        self._writer: tf.summary.SummaryWriter | None = None
        self._next = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks the optimizer and opens the file."""
        optimizer = self.model.optimizer
        if not isinstance(optimizer, base_optimizer.NewtonOptimizer):
            raise ValueError(
                "`CurvatureLogger` reads figures that only optimizers of `keras_sfn` have. "
                f"Received a model with the optimizer {type(optimizer).__name__}. Compile with "
                '"saddle_free_newton", or leave the callback out.'
            )
        if self.log_dir is not None:
            self._writer = tf.summary.create_file_writer(str(self.log_dir))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts counting batches."""
        self._next = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the figures to the logs of the batch and writes them."""
        if batch < self._next:
            return
        self._next = batch - batch % self.update_freq + self.update_freq
        last = self.model.optimizer.last_step
        if logs is not None:
            logs.update(_figures(last))
        if self._writer is not None:
            self._write(self._writer, last)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the figures of the last step to the logs of the epoch."""
        if logs is not None:
            logs.update(_figures(self.model.optimizer.last_step))
        if self._writer is not None:
            self._writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, writer: tf.summary.SummaryWriter, last: last_step_lib.LastStep) -> None:
        with writer.as_default(self.model.optimizer.iterations.value):
            for name, value in _figures(last).items():
                tf.summary.scalar(f"curvature/{name}", value)
            if len(last.ritz_values):
                tf.summary.histogram("curvature/ritz_values", last.ritz_values)


def _figures(last: last_step_lib.LastStep) -> dict[str, float]:
    return {name: getattr(last, name) for name in FIGURES}
