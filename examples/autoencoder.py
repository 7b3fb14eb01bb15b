r"""Deep autoencoder on images, saddle-free Newton beside first-order optimizers.

    python examples/autoencoder.py
    python examples/autoencoder.py --dataset=fashion_mnist --download --seconds=300
    python examples/autoencoder.py --flagfile=examples/autoencoder_paper.flags --download

Each optimizer trains the same network from the same weights for the same number of seconds: random
ones, or with --start=plateau those where SGD with momentum stalled (the experiment of the paper,
whose settings are in autoencoder_paper.flags). Of a first-order optimizer each of its learning
rates has its turn. Written to --output_dir: the loss over time (loss.png, losses.csv),
reconstructions.png, with --lanczos_steps curvature.png, with --start=plateau also SGD's way there
and its weights (plateau.weights.h5).

The network for 28x28 images is that of the paper (784-1000-500-250-30 and back); first-order
optimizers run on small batches with a learning rate that falls along a cosine, the Newton methods
on large ones.
"""

from __future__ import annotations

import math
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from absl import app, flags, logging

import keras_sfn
from helpers import (
    autoencoder_network,
    autoencoder_results,
    command_line,
    curvature_probe,
    gradient_cost,
    image_data,
    stall,
    timed_training,
)

_DATASET = flags.DEFINE_string("dataset", "digits", "digits, or an image set of TFDS.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps prepared sets.")
_DOWNLOAD = flags.DEFINE_bool("download", False, "Fetch the set over the network if need be.")
_OPTIMIZER = flags.DEFINE_list(
    "optimizer",
    "saddle_free_newton,adam",
    "What trains, in turn: saddle_free_newton, damped_newton, nesterov (momentum 0.99), or a name "
    "of Keras's, such as adam and sgd.",
)
_SECONDS = flags.DEFINE_float("seconds", 30, "Training time of each.", lower_bound=0.1)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 128, "Rows a step of first-order optimizers.", lower_bound=1
)
_NEWTON_BATCH_SIZE = flags.DEFINE_integer(
    "newton_batch_size", 2048, "Rows a step of the Newton methods.", lower_bound=1
)
_ADAM_RATE = flags.DEFINE_list(
    "adam_learning_rate", "1e-3", "Initial learning rates of adam, each of which is tried."
)
_SGD_RATE = flags.DEFINE_list(
    "sgd_learning_rate", "0.1", "The same of the other first-order optimizers."
)
_KRYLOV = flags.DEFINE_integer("krylov_dimension", 10, "Lanczos vectors a step.", lower_bound=1)
_INNER_STEPS = flags.DEFINE_integer("inner_steps", 1, "Steps in one subspace.", lower_bound=1)
_CURVATURE = flags.DEFINE_integer(
    "curvature_batch_size", None, "Rows for the Hessian; by default a quarter of the batch."
)
_HIDDEN = flags.DEFINE_list(
    "hidden", None, "Widths down to the code; by default 1000,500,250,30, for digits 128,64,32,8."
)
_ACTIVATION = flags.DEFINE_string("activation", "tanh", "Activation of the hidden layers.")
_INITIALIZER = flags.DEFINE_enum(
    "initializer",
    "glorot_uniform",
    autoencoder_network.INITIALIZERS,
    "Initial weights; sparse: 15 normal ones into each unit.",
)
_ROWS = flags.DEFINE_integer("rows", None, "Use only so many training images.", lower_bound=1)
_START = flags.DEFINE_enum(
    "start", "random", ("random", "plateau"), "From which weights the optimizers start."
)
_PLATEAU_RATE = flags.DEFINE_float(
    "plateau_learning_rate", 0.1, "Of the SGD that runs into the plateau.", lower_bound=0
)
_PLATEAU_MOMENTUM = flags.DEFINE_float("plateau_momentum", 0.9, "Of the same.", 0, 0.999)
_PLATEAU_EPOCHS = flags.DEFINE_integer("plateau_epochs", 1000, "Most of its epochs.", lower_bound=1)
_PATIENCE = flags.DEFINE_integer(
    "stall_epochs", 20, "It has stalled when so many epochs ...", lower_bound=1
)
_IMPROVEMENT = flags.DEFINE_float(
    "stall_improvement", 0.01, "... lower its best loss by less than this fraction.", 0, 1
)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "A plateau.weights.h5 of an earlier run to start from, without SGD."
)
_LANCZOS = flags.DEFINE_integer(
    "lanczos_steps", 0, "Products at each point for curvature.png; 0 for none.", lower_bound=0
)
_LANCZOS_ROWS = flags.DEFINE_integer("lanczos_rows", 500, "Rows of its Hessian.", lower_bound=1)
_POINTS = flags.DEFINE_integer("points", 20, "Points on each curve.", lower_bound=1)
_QUICK = flags.DEFINE_bool("quick", False, "A few seconds each, for a try-out.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of weights and batches.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/autoencoder", "Where results go.")

# What --quick makes of the settings above, at most.
_QUICK_LIMITS = {"seconds": 3, "points": 5, "plateau_epochs": 10, "stall_epochs": 3}
_NEWTON = {
    "saddle_free_newton": keras_sfn.SaddleFreeNewton,
    "damped_newton": keras_sfn.DampedNewton,
}


def make_optimizer(name: str, rate: float, batch_size: int) -> keras.optimizers.Optimizer:
    """Returns the optimizer of that name; Newton methods take the settings of the flags."""
    if name in _NEWTON:
        newton = _NEWTON[name](
            krylov_dimension=_KRYLOV.value,
            curvature_batch_size=_curvature_rows(batch_size),
            inner_steps=_INNER_STEPS.value,
        )
        # A method that fails shows that in its curve; the others still have their turn.
        newton.max_consecutive_rejections = None
        return newton
    if name == "nesterov":
        return keras.optimizers.SGD(rate, momentum=0.99, nesterov=True)
    try:
        optimizer = keras.optimizers.get(name)
    except ValueError:
        known = ", ".join((*_NEWTON, "nesterov", "adam", "sgd"))
        sys.exit(
            f"--optimizer={name} is neither ours nor Keras's. Use {known} or another of Keras's."
        )
    optimizer.learning_rate = rate
    return optimizer


def learning_rates(name: str) -> list[float]:
    """Returns the rates to try with an optimizer; the Newton methods have none."""
    if name in _NEWTON:
        return [1.0]
    flag = _ADAM_RATE if name == "adam" else _SGD_RATE
    try:
        rates = [float(rate) for rate in flag.value]
    except ValueError:
        rates = []
    if not rates or min(rates) <= 0:
        sys.exit(
            f"--{flag.name}={','.join(flag.value)} must be positive numbers, separated by commas."
        )
    return rates


def _curvature_rows(batch_size: int) -> int:
    return _CURVATURE.value or max(batch_size // 4, 1)


def _limited(flag: flags.FlagHolder[Any]) -> Any:
    return min(flag.value, _QUICK_LIMITS[flag.name]) if _QUICK.value else flag.value


def _build(pixels: int) -> keras.Model:
    widths = _HIDDEN.value or ("1000,500,250,30" if pixels >= 784 else "128,64,32,8").split(",")
    return autoencoder_network.build_autoencoder(
        pixels, [int(w) for w in widths], _ACTIVATION.value, _INITIALIZER.value, _SEED.value
    )


def _fit(
    model: keras.Model,
    images: np.ndarray,
    batch_size: int,
    callback: keras.callbacks.Callback,
    epochs: int = 1_000_000,
) -> None:
    # Batches of one size only: a last batch of another size would be compiled for by itself.
    rows = images[: len(images) // batch_size * batch_size]
    model.fit(rows, rows, batch_size=batch_size, epochs=epochs, verbose=0, callbacks=[callback])


def run_into_plateau(images: np.ndarray) -> tuple[list[np.ndarray], autoencoder_results.Run]:
    """Trains with SGD until it stalls; returns its best weights and what was seen."""
    model = _build(images.shape[1])
    optimizer = keras.optimizers.SGD(_PLATEAU_RATE.value, _PLATEAU_MOMENTUM.value)
    model.compile(optimizer=optimizer, loss="mse")
    epochs = _limited(_PLATEAU_EPOCHS)
    stopper = stall.UntilStalled(
        "sgd", images, images, _limited(_PATIENCE), _IMPROVEMENT.value, epochs
    )
    batch_size = min(_BATCH_SIZE.value, len(images))
    _fit(model, images, batch_size, stopper, epochs)
    if not math.isfinite(stopper.records[-1][2]):
        sys.exit(
            f"sgd diverged with --plateau_learning_rate={_PLATEAU_RATE.value:g}. Choose a lower "
            "one."
        )
    reason = "stalled" if stopper.stalled else "stopped by --plateau_epochs before it stalled"
    print(f"sgd {reason} after {len(stopper.records) - 1} epochs", flush=True)
    cost = gradient_cost.first_order_step(batch_size, len(images))
    run = autoencoder_results.Run("sgd until it stalls", model, stopper.records, [], cost, math.nan)
    return model.get_weights(), run


def read_checkpoint(pixels: int) -> list[np.ndarray]:
    """Returns the weights in --checkpoint."""
    model = _build(pixels)
    try:
        model.load_weights(_CHECKPOINT.value)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        sys.exit(
            f"--checkpoint={_CHECKPOINT.value} cannot be read into this network ({reason}). Name "
            "a plateau.weights.h5 that was written with the same --dataset and --hidden."
        )
    return model.get_weights()


def train(
    name: str, rate: float, images: np.ndarray, weights: list[np.ndarray] | None
) -> autoencoder_results.Run:
    """Trains one network with one optimizer for --seconds, from `weights` where they are given."""
    model = _build(images.shape[1])
    if weights is not None:
        model.set_weights(weights)
    newton = name in _NEWTON
    batch_size = min(_NEWTON_BATCH_SIZE.value if newton else _BATCH_SIZE.value, len(images))
    model.compile(optimizer=make_optimizer(name, rate, batch_size), loss="mse")
    several = len(learning_rates(name)) > 1
    label = f"{name} {rate:g}" if several else name
    probe = None
    if _LANCZOS.value:
        rows = images[: _LANCZOS_ROWS.value]
        probe = curvature_probe.CurvatureProbe(model, rows, rows, _LANCZOS.value)
    timer = timed_training.TimedTraining(
        label, images, _limited(_SECONDS), _limited(_POINTS), cosine=not newton, measure=probe
    )
    _fit(model, images, batch_size, timer)
    cost = gradient_cost.first_order_step(batch_size, len(images))
    if newton:
        curvature = _curvature_rows(batch_size)
        cost = gradient_cost.newton_step(batch_size, curvature, _KRYLOV.value, len(images))
    return autoencoder_results.Run(
        label, model, timer.records, timer.measurements, cost, timer.first_step_seconds
    )


def _load(split: str) -> np.ndarray:
    return image_data.load_images(
        _DATASET.value, split, data_dir=_DATA_DIR.value, download=_DOWNLOAD.value
    )


def main(argv: Sequence[str]) -> None:
    """Trains with each optimizer in turn and writes the results."""
    command_line.refuse_arguments(argv)
    logging.set_verbosity(logging.ERROR)  # TFDS tells of every file it opens.
    for name in _OPTIMIZER.value:
        # What is wrong stops here, not in mid-run.
        make_optimizer(name, learning_rates(name)[0], batch_size=1)
    output = command_line.output_directory(_OUTPUT_DIR.value)
    images = _load("train")[: _ROWS.value]
    test = _load("test")[:10]
    flat = images.reshape(len(images), -1)

    weights, way = None, []
    if _CHECKPOINT.value:
        weights = read_checkpoint(flat.shape[1])
    elif _START.value == "plateau":
        weights, run = run_into_plateau(flat)
        run.model.save_weights(output / "plateau.weights.h5")
        way = [run]
    runs = [
        train(name, rate, flat, weights)
        for name in _OPTIMIZER.value
        for rate in learning_rates(name)
    ]
    _write(output, way, runs, test, started=weights is not None)


def _write(
    output: pathlib.Path,
    way: list[autoencoder_results.Run],
    runs: list[autoencoder_results.Run],
    test: np.ndarray,
    started: bool,
) -> None:
    pixels = math.prod(test.shape[1:])
    title = f"Deep autoencoder, {_DATASET.value}"
    title += ", from SGD's plateau" if started else ""
    autoencoder_results.write_losses(output / "losses.csv", [*way, *runs], pixels)
    autoencoder_results.plot_losses(output / "loss.png", runs, title, pixels)
    written = "loss.png, reconstructions.png, losses.csv"
    if _LANCZOS.value:
        autoencoder_results.plot_measurements(output / "curvature.png", runs, title)
        written += ", curvature.png"
    if way:
        autoencoder_results.plot_losses(output / "plateau.png", way, "SGD until it stalls", pixels)
        written += ", plateau.png, plateau.weights.h5"
    shape = test.shape[1:3] if test.shape[3] == 1 else test.shape[1:]
    flat = test.reshape(len(test), -1)
    autoencoder_results.plot_reconstructions(output / "reconstructions.png", flat, shape, runs)
    start = runs[0].records[0][2] if started else None
    autoencoder_results.print_summary([*way, *runs], pixels, start)
    print(f"Results in {output}/: {written}")


if __name__ == "__main__":
    app.run(main)
