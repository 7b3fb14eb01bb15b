r"""Critical points of small classifiers: training error against the share of negative curvature.

    python examples/critical_points.py
    python examples/critical_points.py --dataset=mnist_5k --side=10 --data_dir=FOLDER

The paper's first experiment. One hidden layer on small grey images is trained by Adam from several
weights; from points along each training, spaced evenly in loss, the norm of the gradient is made
small, up to a critical point of whatever index (`helpers/critical_point_search.py`). Of each point
that is found the loss, the error and all eigenvalues of the Hessian are taken, in double precision.
Searches that end without a critical point are kept apart. Written to --output_dir: index.png,
spectra.png, points.csv, spectra.csv.

The paper tells neither loss nor tolerance. Here a penalty keeps critical points finite: without it
the cross-entropy of images that can be told apart has none.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags, logging

import keras_sfn
from helpers import (
    command_line,
    critical_point_results,
    critical_point_search,
    image_data,
    small_classifier,
)

_DATASET = flags.DEFINE_string("dataset", "digits", "digits, or an image set of TFDS.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps prepared sets.")
_DOWNLOAD = flags.DEFINE_bool("download", False, "Fetch the set over the network if need be.")
_ROWS = flags.DEFINE_integer("rows", 300, "Use only so many training images.", lower_bound=1)
_SIDE = flags.DEFINE_integer("side", 8, "Pixels along an edge, by area.", lower_bound=1)
_UNITS = flags.DEFINE_integer("units", 4, "Of the hidden layer.", lower_bound=1)
_ACTIVATION = flags.DEFINE_enum("activation", "tanh", ["tanh", "sigmoid"], "Of the hidden layer.")
_PENALTY = flags.DEFINE_float(
    "penalty", 3e-3, "Times the sum of squared parameters is added to the loss.", lower_bound=0
)
_TRAININGS = flags.DEFINE_integer("trainings", 6, "From as many weights.", lower_bound=1)
_EPOCHS = flags.DEFINE_integer("epochs", 60, "Of each training.", lower_bound=1)
_POINTS = flags.DEFINE_integer("points", 10, "Searches along each training.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 150, "Most steps of a search.", lower_bound=1)
_TOLERANCE = flags.DEFINE_float(
    "tolerance", 1e-8, "Norm of the gradient of a critical point.", lower_bound=1e-14
)
_ZERO = flags.DEFINE_float(
    "zero", 1e-6, "Eigenvalues count as negative below minus this times the largest.", lower_bound=0
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the first training; the others follow.")
_QUICK = flags.DEFINE_bool("quick", False, "A try-out in seconds, too short to tell anything.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/critical_points", "Where results go.")

# The --quick form: no flag larger than this.
_SMALL = {
    "rows": 100,
    "side": 4,
    "units": 3,
    "trainings": 2,
    "epochs": 20,
    "points": 2,
    "steps": 40,
}
_BATCH = 50
_LEARNING_RATE = 1e-2


class Landscape:
    """The loss of one network on all rows, as a function of one vector of its parameters.

    Args:
        images: Shape (rows, pixels), float64.
        labels: Shape (rows,).
        classes: Number of classes.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, classes: int) -> None:
        self._images, self._labels = tf.constant(images), tf.constant(labels)
        self._sizes = images.shape[1], _setting("units"), classes
        self.model = self._build()
        self._variables = self.model.trainable_variables
        self._hessian = keras_sfn.HessianOperator(
            lambda: self._loss(self._images, self._labels), self._variables
        )

    @property
    def point(self) -> np.ndarray:
        """The parameters, shape (n,)."""
        return np.concatenate([weights.ravel() for weights in self.model.get_weights()])

    def loss(self, point: np.ndarray) -> float:
        """Returns the loss, with the penalty."""
        self._go_to(point)
        return float(self._hessian.loss())

    def gradient(self, point: np.ndarray) -> np.ndarray:
        """Returns the gradient, shape (n,)."""
        self._go_to(point)
        return self._hessian.gradient().numpy()

    def hessian(self, point: np.ndarray) -> np.ndarray:
        """Returns the Hessian, shape (n, n)."""
        self._go_to(point)
        return self._hessian.to_dense().numpy()

    def error(self, point: np.ndarray) -> float:
        """Returns the part of the images that is not classified right."""
        self._go_to(point)
        classified = self.model(self._images).numpy().argmax(axis=1)
        return float(np.mean(classified != self._labels.numpy()))

    def train(self, seed: int, epochs: int) -> tuple[list[np.ndarray], list[float]]:
        """Trains from new weights; returns points before and after each epoch, and their losses."""
        keras.utils.set_random_seed(seed)
        self.model.set_weights(self._build().get_weights())
        optimizer = keras.optimizers.Adam(_LEARNING_RATE)
        optimizer.build(self._variables)

        @tf.function(autograph=False)
        def step(images: tf.Tensor, labels: tf.Tensor) -> None:
            with tf.GradientTape() as tape:
                loss = self._loss(images, labels)
            values = [variable.value for variable in self._variables]
            optimizer.apply(tape.gradient(loss, values), self._variables)

        rows = tf.data.Dataset.from_tensor_slices((self._images, self._labels))
        rows = rows.shuffle(len(self._labels), seed=seed).batch(_BATCH, drop_remainder=True)
        points, losses = [self.point], [float(self._hessian.loss())]
        for _ in range(epochs):
            for batch in rows:
                step(*batch)
            points.append(self.point)
            losses.append(float(self._hessian.loss()))
        return points, losses

    def _build(self) -> keras.Model:
        return small_classifier.build_classifier(*self._sizes, _ACTIVATION.value, "float64")

    def _loss(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        # Not Keras's, which is computed in single precision.
        cross_entropies = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels, self.model(images, training=True)
        )
        squares = [tf.reduce_sum(variable.value**2) for variable in self._variables]
        return tf.reduce_mean(cross_entropies) + _PENALTY.value * tf.add_n(squares)

    def _go_to(self, point: np.ndarray) -> None:
        sizes = [int(np.prod(variable.shape)) for variable in self._variables]
        parts = np.split(point, np.cumsum(sizes)[:-1])
        for variable, part in zip(self._variables, parts, strict=True):
            variable.assign(part.reshape(variable.shape))


def evenly(losses: Sequence[float], count: int) -> list[int]:
    """Returns the places nearest to as many losses between the first and the lowest."""
    wanted = np.linspace(losses[0], min(losses), count)
    return sorted({int(np.abs(np.array(losses) - loss).argmin()) for loss in wanted})


def search(
    landscape: Landscape, start: np.ndarray, training: int, epoch: int, loss: float
) -> critical_point_results.Found:
    """Searches from where a training was after an epoch, with its loss there."""
    began = time.perf_counter()
    point = critical_point_search.find(
        landscape.gradient,
        landscape.hessian,
        start,
        tolerance=_TOLERANCE.value,
        most_steps=_setting("steps"),
    )
    norms, values = point.gradient_norms, point.eigenvalues
    record = critical_point_results.Record(
        training=training,
        epoch=epoch,
        start_loss=loss,
        start_gradient_norm=norms[0],
        steps=len(norms) - 1,
        seconds=time.perf_counter() - began,
        outcome=point.outcome,
        kind=critical_point_results.kind_of(norms[-1], _TOLERANCE.value),
        gradient_norm=norms[-1],
        loss=landscape.loss(point.parameters),
        error=landscape.error(point.parameters),
        negative_share=critical_point_results.negative_share(values, _ZERO.value),
        smallest=float(values[0]),
        largest=float(values[-1]),
    )
    return critical_point_results.Found(record, values)


def _setting(name: str) -> int:
    """Returns a flag's value, in the --quick form no larger than there."""
    value: int = getattr(flags.FLAGS, name)
    return min(value, _SMALL[name]) if _QUICK.value else value


def main(argv: Sequence[str]) -> None:
    """Trains, searches and writes the results after each training."""
    command_line.refuse_arguments(argv)
    logging.set_verbosity(logging.ERROR)  # TFDS tells of every file it opens.
    images, labels = image_data.load_labelled_images(
        _DATASET.value, "train", data_dir=_DATA_DIR.value, download=_DOWNLOAD.value
    )
    classes = int(labels.max()) + 1
    rows = slice(_setting("rows"))
    images = small_classifier.small_images(images[rows], _setting("side")).astype("float64")
    output = command_line.output_directory(_OUTPUT_DIR.value)
    landscape = Landscape(images, labels[rows], classes)
    title = f"{_DATASET.value}, {len(images)} images, {landscape.model.count_params()} parameters"
    print(title, flush=True)
    found: list[critical_point_results.Found] = []
    for training in range(_SEED.value, _SEED.value + _setting("trainings")):
        points, losses = landscape.train(training, _setting("epochs"))
        epochs = evenly(losses, _setting("points"))
        print(
            f"Training {training}: loss {losses[0]:.3f} to {min(losses):.3f}; searches", flush=True
        )
        bar = keras.utils.Progbar(
            len(epochs), unit_name="search", stateful_metrics=["steps", "gradient", "index"]
        )
        for epoch in epochs:
            found.append(search(landscape, points[epoch], training, epoch, losses[epoch]))
            record = found[-1].record
            values = [("steps", record.steps), ("gradient", record.gradient_norm)]
            bar.add(1, [*values, ("index", record.negative_share)])
        critical_point_results.write(output, found, title)
    print(critical_point_results.table(found))
    print(f"Results in {output}/: index.png, spectra.png, points.csv, spectra.csv")


if __name__ == "__main__":
    app.run(main)
