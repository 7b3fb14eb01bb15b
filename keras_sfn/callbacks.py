"""A Keras callback that shows what the steps do."""

from __future__ import annotations

import importlib.util
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_sfn import validation
from keras_sfn.optimizers import last_step as last_step_lib
from keras_sfn.optimizers import newton_optimizer

# Names in `logs` and in TensorBoard, in this order; attributes of `LastStep`.
FIGURES = (
    "damping",
    "ritz_min",
    "ritz_max",
    "gradient_norm",
    "step_norm",
    "reduction_ratio",
    "rejected_steps",
    "preconditioned",
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
    - `preconditioned`: 1 where directions are preconditioned, 0 in a plain Krylov space.

    A callback sees what callbacks before it have put into the logs: pass this one before
    `CSVLogger`, `TensorBoard` and any other that should see it, as with Keras's own
    `LearningRateScheduler`. The progress bar and `History` always come last.

    Example:
    >>> model.fit(x, y, callbacks=[keras_sfn.CurvatureLogger("logs"),
    ...                            keras.callbacks.CSVLogger("steps.csv")])

    Args:
        log_dir: Where to write TensorBoard scalars and a histogram of the Ritz values, under the
            names `curvature/...` and the number of the step; None writes none.
        write_freq: Integer >= 1, batches from one writing to the next.
        update_freq: Integer >= 1, batches from one update of the logs to the next; an epoch's logs
            always have the figures of its last step. With `steps_per_execution` only the last step
            of each execution can be seen, here and in `write_freq`.

    Raises:
        ValueError: `write_freq` or `update_freq` is no integer >= 1, or, when training begins, the
            model's optimizer is not one of this package.
        ImportError: `log_dir` is given and TensorBoard is not installed.
    """

    def __init__(
        self, log_dir: str | None = None, write_freq: int = 20, update_freq: int = 1
    ) -> None:
        super().__init__()
        validation.integer_at_least("write_freq", write_freq, 1)
        validation.integer_at_least("update_freq", update_freq, 1)
        if log_dir is not None:
            require_tensorboard(log_dir)
        self.log_dir = log_dir
        self.write_freq = write_freq
        self.update_freq = update_freq
        self._writer: _Writer | None = None
        self._next_update = 0
        self._next_write = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks the optimizer and opens the file."""
        optimizer = self.model.optimizer
        if not isinstance(optimizer, newton_optimizer.NewtonOptimizer):
            raise ValueError(
                "`CurvatureLogger` reads figures that only optimizers of `keras_sfn` have. "
                f"Received a model with the optimizer {type(optimizer).__name__}. Compile with "
                '"saddle_free_newton", or leave the callback out.'
            )
        if self.log_dir is not None:
            self._writer = _Writer(str(self.log_dir), optimizer.iterations)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts counting batches."""
        self._next_update = self._next_write = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the figures to the logs of the batch and writes them."""
        write = self._writer is not None and batch >= self._next_write
        if batch < self._next_update and not write:
            return
        last = self.model.optimizer.last_step
        if batch >= self._next_update:
            self._next_update = batch - batch % self.update_freq + self.update_freq
            if logs is not None:
                logs.update(_figures(last))
        if self._writer is not None and write:
            self._next_write = batch - batch % self.write_freq + self.write_freq
            self._writer.write(last)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the figures of the last step to the logs of the epoch."""
        if logs is not None:
            logs.update(_figures(self.model.optimizer.last_step))
        if self._writer is not None:
            self._writer.file.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.file.close()
            self._writer = None


def require_tensorboard(log_dir: Any) -> None:
    """Raises unless TensorBoard is there.

    Raises:
        ImportError: It is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise ImportError(
            f"`log_dir` needs TensorBoard. Received: log_dir={log_dir!r}, and the package is not "
            "installed. Run `pip install tensorboard`, or leave `log_dir` at None."
        )


class _Writer:
    """Writes figures to an event file, in one compiled function: six times faster than op by op."""

    def __init__(self, log_dir: str, iterations: keras.Variable) -> None:
        self.file = tf.summary.create_file_writer(log_dir)

        @tf.function(
            input_signature=[
                tf.TensorSpec((len(FIGURES),), tf.float64),
                tf.TensorSpec((None,), tf.float64),
            ],
            autograph=False,
        )
        def write(figures: tf.Tensor, ritz_values: tf.Tensor) -> None:
            with self.file.as_default(tf.cast(iterations.value, tf.int64)):
                for index, name in enumerate(FIGURES):
                    tf.summary.scalar(f"curvature/{name}", figures[index])
                tf.summary.histogram("curvature/ritz_values", ritz_values)

        self._write = write

    def write(self, last: last_step_lib.LastStep) -> None:
        """Writes the figures under the optimizer's number of steps."""
        figures = np.array([*_figures(last).values()], "float64")
        self._write(figures, last.ritz_values.astype("float64"))


def _figures(last: last_step_lib.LastStep) -> dict[str, float]:
    return {name: getattr(last, name) for name in FIGURES}
