r"""Small classifiers: tuned SGD, damped Newton and exact saddle-free Newton, as in the paper.

    python examples/classifier.py
    python examples/classifier.py --dataset=mnist --download

One hidden layer on images of 10x10 grey pixels (colour sets are made grey: 100 inputs keep the
Hessian small). Each method trains the same network from the same weights for the same number of
epochs, passes over the training set for a gradient: minibatch SGD with momentum, the best of
--draws settings drawn at random; damped Newton and saddle-free Newton on the whole set with the
whole Hessian, each Hessian for --inner_steps steps of one epoch. A Hessian costs far more than an
epoch: seconds and gradient equivalents stand beside. Written to --output_dir: figures.png,
history.csv, draws.csv.

The paper does not tell the activation, the batches and the ranges of SGD's random search (see
`helpers/random_search.py`), nor how many steps a Hessian serves: all are choices, and flags.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import keras
import numpy as np
from absl import app, flags, logging

import keras_sfn
from helpers import (
    classifier_results,
    command_line,
    image_data,
    random_search,
    small_classifier,
)

_DATASET = flags.DEFINE_string("dataset", "digits", "digits, or an image set of TFDS.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps prepared sets.")
_DOWNLOAD = flags.DEFINE_bool("download", False, "Fetch the set over the network if need be.")
_ROWS = flags.DEFINE_integer("rows", 4000, "Use only so many training images.", lower_bound=1)
_SIDE = flags.DEFINE_integer("side", 10, "Pixels along an edge, by area.", lower_bound=1)
_HIDDEN = flags.DEFINE_multi_integer(
    "hidden", [5, 25, 50], "Units of the hidden layer; repeat the flag for several.", lower_bound=1
)
_ACTIVATION = flags.DEFINE_enum("activation", "tanh", ["tanh", "sigmoid"], "Of the hidden layer.")
_OPTIMIZER = flags.DEFINE_list(
    "optimizer", "sgd,damped_newton,exact_saddle_free_newton", "Methods to train with, in turn."
)
_EPOCHS = flags.DEFINE_integer("epochs", 30, "Epochs of every method.", lower_bound=1)
_SGD_EPOCHS = flags.DEFINE_integer(
    "sgd_epochs", None, "Epochs of SGD, where they should be other than --epochs.", lower_bound=1
)
_INNER_STEPS = flags.DEFINE_integer(
    "inner_steps", 5, "Steps of both Newton methods with one Hessian.", lower_bound=1
)
_DRAWS = flags.DEFINE_integer("draws", 40, "Random settings of SGD tried.", lower_bound=1)
_EIGENVALUES = flags.DEFINE_integer(
    "eigenvalues", 4, "Points on SGD's best run where the Hessian is taken.", lower_bound=0
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of weights, draws and batches.")
_QUICK = flags.DEFINE_bool("quick", False, "A try-out in seconds, too short to tell anything.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/classifier", "Where results go.")

# The --quick form: this size, and no other flag larger than this.
_SMALL_HIDDEN = (5,)
_SMALL = {"rows": 200, "epochs": 4, "inner_steps": 2, "draws": 2, "eigenvalues": 1}

# Gradients that a step costs: its own, and about three evaluations of the loss for the damping.
_GRADIENTS_A_STEP = 2
_GRADIENTS_A_PRODUCT = 2


def make_optimizer(name: str) -> keras.optimizers.Optimizer | None:
    """Returns the Newton method of that name, and None for `"sgd"`."""
    steps = _setting("inner_steps")
    if name == "sgd":
        return None
    if name == "damped_newton":
        return keras_sfn.DampedNewton(krylov_dimension=None, inner_steps=steps)
    if name == "exact_saddle_free_newton":
        return keras_sfn.ExactSaddleFreeNewton(inner_steps=steps)
    sys.exit(
        f"--optimizer={name} is unknown. Use sgd, damped_newton or exact_saddle_free_newton, or "
        "several of them with commas between."
    )


class Experiment:
    """One network on one data set, trained by each method in turn.

    Args:
        images: Shape (rows, pixels).
        labels: Shape (rows,).
        classes: Number of classes.
        units: Of the hidden layer.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, classes: int, units: int) -> None:
        keras.utils.set_random_seed(_SEED.value)
        self._model = small_classifier.build_classifier(
            images.shape[1], units, classes, _ACTIVATION.value
        )
        self._start = self._model.get_weights()
        self._images, self._labels, self._units = images, labels, units

    def newton(
        self, name: str, optimizer: keras.optimizers.Optimizer
    ) -> list[classifier_results.Record]:
        """Trains with a Newton method; its time is that of the steps, tracing of the first too."""
        model, inner = self._model, _setting("inner_steps")
        model.set_weights(self._start)
        model.compile(optimizer, model.loss)
        hessians = _setting("epochs") // inner
        cost = _GRADIENTS_A_PRODUCT * model.count_params() + _GRADIENTS_A_STEP * inner
        bar = self._bar(name, hessians, "Hessian")
        records = [self._record(name, 0, 0.0, 0.0)]
        for count in range(1, hessians + 1):
            start = time.perf_counter()
            model.train_on_batch(self._images, self._labels)
            seconds = records[-1].seconds + time.perf_counter() - start
            # The Hessian is that of the weights before the step, which are recorded already.
            lowest = optimizer.last_step.ritz_min
            records[-1] = records[-1]._replace(most_negative_eigenvalue=lowest)
            records.append(self._record(name, count * inner, seconds, count * cost))
            _show(bar, count, records[-1])
        return records

    def sgd(self) -> tuple[list[classifier_results.Record], list[classifier_results.DrawRecord]]:
        """Trains with each draw of SGD; returns the best one's records, and where each ended."""
        self._model.set_weights(self._start)
        trainer = random_search.Trainer(self._model, self._images, self._labels)
        epochs = _SGD_EPOCHS.value or _setting("epochs")
        every = min(_setting("inner_steps"), epochs)
        bar = self._bar("sgd", _setting("draws"), "draw")
        best: list[classifier_results.Record] = []
        best_weights: list[list[np.ndarray]] = []
        ends = []
        settings = random_search.draws(_setting("draws"), len(self._labels), _SEED.value)
        for index, draw in enumerate(settings):
            weights, seconds = trainer.run(draw, epochs, every, _SEED.value + index)
            records = []
            for i, arrays in enumerate(weights):
                self._model.set_weights(arrays)
                records.append(self._record("sgd", i * every, seconds[i], i * every))
            end = classifier_results.best(records)
            ends.append(classifier_results.DrawRecord(self._units, draw, end))
            if not best or end.rank < classifier_results.best(best).rank:
                best, best_weights = records, weights
            _show(bar, index + 1, classifier_results.best(best))
        return self._with_eigenvalues(best, best_weights), ends

    def _with_eigenvalues(
        self, records: list[classifier_results.Record], weights: list[list[np.ndarray]]
    ) -> list[classifier_results.Record]:
        """Adds the most negative eigenvalue at --eigenvalues records, the last among them."""
        count = min(_setting("eigenvalues"), len(records) - 1)
        print(f"{self._units} units, sgd: {count} Hessians along the best run", flush=True)
        for index in np.linspace(0, len(records) - 1, count + 1)[1:].round().astype(int):
            self._model.set_weights(weights[index])
            hessian = keras_sfn.HessianOperator.from_model(self._model, self._images, self._labels)
            lowest = float(np.linalg.eigvalsh(hessian.to_dense().numpy())[0])
            records[index] = records[index]._replace(most_negative_eigenvalue=lowest)
        return records

    def _record(
        self, name: str, epoch: int, seconds: float, gradients: float
    ) -> classifier_results.Record:
        logits = self._model(self._images).numpy().astype("float64")
        error, cross_entropy = classifier_results.measure(logits, self._labels)
        return classifier_results.Record(
            self._units, name, epoch, seconds, gradients, error, cross_entropy
        )

    def _bar(self, name: str, target: int, unit: str) -> keras.utils.Progbar:
        print(f"{self._units} units, {name}: {target} x {unit}", flush=True)
        return keras.utils.Progbar(
            target, unit_name=unit, stateful_metrics=["error", "cross_entropy"]
        )


def _show(bar: keras.utils.Progbar, count: int, record: classifier_results.Record) -> None:
    values = [("error", record.error), ("cross_entropy", record.cross_entropy)]
    bar.update(count, values, finalize=count == bar.target)


def _setting(name: str) -> int:
    """Returns a flag's value, in the --quick form no larger than there."""
    value: int = getattr(flags.FLAGS, name)
    return min(value, _SMALL[name]) if _QUICK.value else value


def main(argv: Sequence[str]) -> None:
    """Trains every size with every method and writes the results."""
    command_line.refuse_arguments(argv)
    logging.set_verbosity(logging.ERROR)  # TFDS tells of every file it opens.
    for name in _OPTIMIZER.value:
        make_optimizer(name)  # A name that is unknown stops here, not in mid-run.
    if _setting("epochs") < _setting("inner_steps"):
        sys.exit(
            f"--epochs={_EPOCHS.value} is less than --inner_steps={_INNER_STEPS.value}, the epochs "
            "of one Hessian. Raise the one or lower the other."
        )
    images, labels = image_data.load_labelled_images(
        _DATASET.value, "train", data_dir=_DATA_DIR.value, download=_DOWNLOAD.value
    )
    classes = int(labels.max()) + 1
    rows = slice(_setting("rows"))
    images, labels = small_classifier.small_images(images[rows], _SIDE.value), labels[rows]

    output = command_line.output_directory(_OUTPUT_DIR.value)
    records: list[classifier_results.Record] = []
    ends: list[classifier_results.DrawRecord] = []
    for units in _SMALL_HIDDEN if _QUICK.value else _HIDDEN.value:
        experiment = Experiment(images, labels, classes, units)
        for name in _OPTIMIZER.value:
            optimizer = make_optimizer(name)
            if optimizer is None:
                found, tried = experiment.sgd()
                ends += tried
            else:
                found = experiment.newton(name, optimizer)
            records += found
            classifier_results.write(output, records, ends, _DATASET.value)
    print(classifier_results.table(records, ends))
    print(f"Results in {output}/: figures.png, history.csv, draws.csv")


if __name__ == "__main__":
    app.run(main)
