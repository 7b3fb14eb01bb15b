r"""Recurrent net on characters: SGD until it stalls, then saddle-free Newton from that checkpoint.

    python examples/char_rnn.py --download
    python examples/char_rnn.py --dataset=penn_treebank --ptb_dir=FOLDER

A recurrent net of 120 tanh units with orthogonal recurrent weights predicts the next character of
a fixed part of the text; its state starts at zero in each sequence. SGD with momentum trains until
its loss stalls. Each optimizer of --optimizer then goes on from its best weights for the same
number of seconds, SGD itself among them. The spectrum of the Hessian is taken at the plateau and at
each end. Written to --output_dir: loss.png, spectrum.png, losses.csv, spectrum.csv, summary.csv.

The folder of the Penn Treebank holds ptb.train.txt, ptb.valid.txt and ptb.test.txt, or
ptb.char.train.txt and so on.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from absl import app, flags, logging

import keras_sfn
from helpers import (
    char_rnn_results,
    command_line,
    gradient_cost,
    spectrum,
    stall,
    text_data,
    timed_training,
)

_DATASET = flags.DEFINE_string(
    "dataset", "tiny_shakespeare", "A text of TFDS, or penn_treebank with --ptb_dir."
)
_PTB_DIR = flags.DEFINE_string("ptb_dir", None, "Folder of the Penn Treebank's files.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps prepared sets.")
_DOWNLOAD = flags.DEFINE_bool("download", False, "Fetch the set over the network if need be.")
_ROWS = flags.DEFINE_integer("rows", 1000, "Sequences of the training set.", lower_bound=2)
_LENGTH = flags.DEFINE_integer("sequence_length", 50, "Characters a sequence.", lower_bound=1)
_UNITS = flags.DEFINE_integer("units", 120, "Recurrent units.", lower_bound=1)
_OPTIMIZER = flags.DEFINE_list(
    "optimizer",
    "saddle_free_newton,damped_newton,sgd,sgd_decayed,adam",
    "What goes on from SGD's plateau, in turn: saddle_free_newton, damped_newton, sgd as before, "
    "sgd_decayed and adam with a learning rate that falls to zero.",
)
_SECONDS = flags.DEFINE_float("seconds", 120, "Training time of each of them.", lower_bound=0.1)
_SGD_RATE = flags.DEFINE_float("sgd_learning_rate", 0.3, "Of sgd.", lower_bound=0)
_MOMENTUM = flags.DEFINE_float("sgd_momentum", 0.9, "Of sgd.", lower_bound=0, upper_bound=0.999)
_ADAM_RATE = flags.DEFINE_float("adam_learning_rate", 3e-3, "Of adam, at first.", lower_bound=0)
_CLIP = flags.DEFINE_float(
    "clip_norm", 1, "Largest norm of a gradient of sgd and adam.", lower_bound=1e-6
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 100, "Sequences a step of sgd and adam.", lower_bound=1
)
_NEWTON_BATCH_SIZE = flags.DEFINE_integer(
    "newton_batch_size", 1000, "Sequences a step of the Newton methods.", lower_bound=1
)
_CURVATURE = flags.DEFINE_integer(
    "curvature_batch_size", None, "Sequences for the Hessian; by default all of the batch."
)
_KRYLOV = flags.DEFINE_integer("krylov_dimension", 3, "Lanczos vectors a step.", lower_bound=1)
_STEP_NORM = flags.DEFINE_float(
    "max_step_norm", 5, "Largest norm of a step of the Newton methods.", lower_bound=1e-6
)
_EPOCHS = flags.DEFINE_integer("sgd_epochs", 500, "Most epochs of SGD at first.", lower_bound=1)
_PATIENCE = flags.DEFINE_integer(
    "stall_epochs", 50, "SGD has stalled when so many epochs ...", lower_bound=1
)
_IMPROVEMENT = flags.DEFINE_float(
    "stall_improvement", 0.01, "... lower its best loss by less than this fraction.", 0, 1
)
_LANCZOS = flags.DEFINE_integer("lanczos_steps", 80, "Products a spectrum.", lower_bound=1)
_SPECTRUM_ROWS = flags.DEFINE_integer("spectrum_rows", 500, "Sequences of it.", lower_bound=1)
_THRESHOLD = flags.DEFINE_float(
    "threshold",
    0.2,
    "Eigenvalues below minus this count as negative; too near to zero their sign is not resolved.",
    lower_bound=0,
)
_POINTS = flags.DEFINE_integer("points", 20, "Points on each curve.", lower_bound=1)
_QUICK = flags.DEFINE_bool("quick", False, "A small net for a few seconds, for a try-out.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of weights, batches and Lanczos vectors.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/char_rnn", "Where results go.")

# What --quick makes of the settings above, at most.
_QUICK_LIMITS = {
    "rows": 60,
    "sequence_length": 12,
    "units": 16,
    "seconds": 0.5,
    "batch_size": 20,
    "sgd_epochs": 20,
    "stall_epochs": 3,
    "lanczos_steps": 12,
    "points": 4,
}
_NEWTON = {
    "saddle_free_newton": keras_sfn.SaddleFreeNewton,
    "damped_newton": keras_sfn.DampedNewton,
}
_PLATEAU = "sgd until it stalls"


def build_model(length: int, units: int, characters: int) -> keras.Model:
    """Returns one-hot characters -> tanh recurrent layer -> scores of the next character.

    Not unrolled: on two CPU cores a step takes the same time either way, and the time to trace an
    unrolled one grows with the length.
    """
    inputs = keras.Input((length,), dtype="int32")
    one_hot = keras.ops.one_hot(inputs, characters)
    states = keras.layers.SimpleRNN(
        units, return_sequences=True, recurrent_initializer="orthogonal"
    )(one_hot)
    return keras.Model(inputs, keras.layers.Dense(characters)(states))


def make_optimizer(name: str) -> keras.optimizers.Optimizer:
    """Returns the optimizer of that name with the settings of the flags."""
    if name in _NEWTON:
        newton = _NEWTON[name](
            krylov_dimension=_KRYLOV.value,
            curvature_batch_size=_CURVATURE.value,
            max_step_norm=_STEP_NORM.value,
        )
        # A method that fails shows that in its curve; the others still have their turn.
        newton.max_consecutive_rejections = None
        return newton
    if name in ("sgd", "sgd_decayed"):
        return keras.optimizers.SGD(_SGD_RATE.value, _MOMENTUM.value, global_clipnorm=_CLIP.value)
    if name == "adam":
        return keras.optimizers.Adam(_ADAM_RATE.value, global_clipnorm=_CLIP.value)
    known = ", ".join((*_NEWTON, "sgd", "sgd_decayed", "adam"))
    sys.exit(f"--optimizer={name} is unknown. Choose from {known}, separated by commas.")


def gradients_a_step(name: str, batch_size: int, rows: int) -> float:
    """Returns the cost of a step in gradients of the whole training set."""
    if name not in _NEWTON:
        return gradient_cost.first_order_step(batch_size, rows)
    curvature = _CURVATURE.value or batch_size
    return gradient_cost.newton_step(batch_size, curvature, _KRYLOV.value, rows)


class Experiment:
    """The training set, and what is done with one network after another.

    Args:
        train: Shape (rows, length + 1), the sequences trained on.
        valid: The same of the validation part.
        characters: Size of the alphabet.
    """

    def __init__(self, train: np.ndarray, valid: np.ndarray, characters: int) -> None:
        self._train, self._valid = train, valid
        self._characters = characters

    def until_stalled(self) -> tuple[list[np.ndarray], char_rnn_results.Stage]:
        """Trains with SGD until it stalls; returns its best weights and what was seen."""
        model, batch_size = self._compiled("sgd")
        stopper = stall.UntilStalled(
            "sgd",
            *_pairs(self._train),
            patience=_limited(_PATIENCE),
            improvement=_IMPROVEMENT.value,
            most_epochs=_limited(_EPOCHS),
        )
        self._fit(model, batch_size, stopper, epochs=_limited(_EPOCHS))
        if not math.isfinite(stopper.records[-1][2]):
            sys.exit(
                f"sgd diverged with --sgd_learning_rate={_SGD_RATE.value:g}. Choose a lower one."
            )
        reason = "stalled" if stopper.stalled else "stopped by --sgd_epochs before it stalled"
        print(f"sgd {reason} after {len(stopper.records) - 1} epochs", flush=True)
        stage = self._stage(_PLATEAU, model, stopper.records, "sgd", batch_size)
        return model.get_weights(), stage

    def go_on(self, name: str, weights: list[np.ndarray]) -> char_rnn_results.Stage:
        """Trains with one optimizer from the given weights for --seconds."""
        model, batch_size = self._compiled(name)
        model.set_weights(weights)
        inputs, targets = _pairs(self._train)
        falling = name in ("sgd_decayed", "adam")
        timer = timed_training.TimedTraining(
            name, inputs, _limited(_SECONDS), _limited(_POINTS), falling, targets
        )
        self._fit(model, batch_size, timer, epochs=1_000_000)
        return self._stage(name, model, timer.records, name, batch_size)

    def _compiled(self, name: str) -> tuple[keras.Model, int]:
        keras.utils.set_random_seed(_SEED.value)
        model = build_model(self._train.shape[1] - 1, _limited(_UNITS), self._characters)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=make_optimizer(name), loss=loss)
        size = _NEWTON_BATCH_SIZE.value if name in _NEWTON else _limited(_BATCH_SIZE)
        return model, min(size, len(self._train))

    def _fit(
        self, model: keras.Model, batch_size: int, callback: keras.callbacks.Callback, epochs: int
    ) -> None:
        # Batches of one size only: a last batch of another size would be compiled for by itself.
        usable = self._train[: len(self._train) // batch_size * batch_size]
        model.fit(
            *_pairs(usable), batch_size=batch_size, epochs=epochs, verbose=0, callbacks=[callback]
        )

    def _stage(
        self,
        label: str,
        model: keras.Model,
        records: list[tuple[float, int, float]],
        name: str,
        batch_size: int,
    ) -> char_rnn_results.Stage:
        cost = gradients_a_step(name, batch_size, len(self._train))
        training, validation = (
            float(model.evaluate(*_pairs(part), batch_size=1024, verbose=0))
            for part in (self._train, self._valid)
        )
        ritz = None
        if math.isfinite(training):
            hessian = keras_sfn.HessianOperator.from_model(
                model, *_pairs(self._train[: _SPECTRUM_ROWS.value])
            )
            ritz = spectrum.ritz_spectrum(hessian, _limited(_LANCZOS), _SEED.value, label)
        return char_rnn_results.Stage(label, records, cost, training, validation, ritz)


def _pairs(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return rows[:, :-1], rows[:, 1:]


def _limited(flag: flags.FlagHolder[Any]) -> Any:
    return min(flag.value, _QUICK_LIMITS[flag.name]) if _QUICK.value else flag.value


def _load() -> tuple[np.ndarray, np.ndarray, int]:
    text = text_data.load_text(
        _DATASET.value, ptb_dir=_PTB_DIR.value, data_dir=_DATA_DIR.value, download=_DOWNLOAD.value
    )
    length, rows = _limited(_LENGTH), _limited(_ROWS)
    train, valid = (text_data.sequences(part, length, rows) for part in (text.train, text.valid))
    if not len(train) or not len(valid):
        sys.exit(
            f"--dataset={_DATASET.value} has {len(text.train)} characters to train and "
            f"{len(text.valid)} to validate, and a sequence takes --sequence_length={length} and "
            "one more. Choose shorter sequences or a longer text."
        )
    return train, valid, len(text.alphabet)


def main(argv: Sequence[str]) -> None:
    """Trains until SGD stalls, goes on with each optimizer, writes the results."""
    command_line.refuse_arguments(argv)
    logging.set_verbosity(logging.ERROR)  # TFDS tells of every file it opens.
    for name in _OPTIMIZER.value:
        make_optimizer(name)  # A name that is unknown stops here, not in mid-run.
    output = command_line.output_directory(_OUTPUT_DIR.value)
    experiment = Experiment(*_load())
    weights, plateau = experiment.until_stalled()
    stages = [plateau, *(experiment.go_on(name, weights) for name in _OPTIMIZER.value)]
    char_rnn_results.write(output, stages, -_THRESHOLD.value, _DATASET.value)


if __name__ == "__main__":
    app.run(main)
