r"""Deep autoencoder on images, saddle-free Newton beside first-order optimizers.

    python examples/autoencoder.py
    python examples/autoencoder.py --dataset=fashion_mnist --download --seconds=300

Each optimizer trains the same network from the same seed for the same number of seconds. Written to
--output_dir: the loss against time (loss.png, losses.csv) and reconstructions.

The network for 28x28 images is that of the paper (784-1000-500-250-30 and back); adam and sgd run
on small batches with a learning rate that falls along a cosine, saddle-free Newton on large ones.
"""

from __future__ import annotations

import csv
import pathlib
import sys
from collections.abc import Sequence

import image_data
import keras
import matplotlib
import numpy as np
import timed_training
from absl import app, flags, logging

import keras_sfn  # noqa: F401 (registers saddle_free_newton)

matplotlib.use("Agg")
from matplotlib import pyplot as plt

_OURS = ("saddle_free_newton",)

_DATASET = flags.DEFINE_string("dataset", "digits", "digits, or an image set of TFDS.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps prepared sets.")
_DOWNLOAD = flags.DEFINE_bool("download", False, "Fetch the set over the network if need be.")
_OPTIMIZER = flags.DEFINE_list(
    "optimizer", "saddle_free_newton,adam", "Names of optimizers to train with, in turn."
)
_SECONDS = flags.DEFINE_float("seconds", 30, "Training time of each optimizer.", lower_bound=0.1)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 128, "Rows a step of first-order optimizers.", lower_bound=1
)
_NEWTON_BATCH_SIZE = flags.DEFINE_integer(
    "newton_batch_size", 2048, "Rows a step of saddle-free Newton.", lower_bound=1
)
_ADAM_RATE = flags.DEFINE_float("adam_learning_rate", 1e-3, "Initial learning rate of adam.")
_SGD_RATE = flags.DEFINE_float("sgd_learning_rate", 0.1, "Initial learning rate of other names.")
_KRYLOV = flags.DEFINE_integer("krylov_dimension", None, "Lanczos vectors a step.", lower_bound=1)
_CURVATURE = flags.DEFINE_integer(
    "curvature_batch_size", None, "Rows for the Hessian; by default a quarter of the batch."
)
_HIDDEN = flags.DEFINE_list(
    "hidden", None, "Widths down to the code; by default 1000,500,250,30, for digits 128,64,32,8."
)
_ACTIVATION = flags.DEFINE_string("activation", "tanh", "Activation of the hidden layers.")
_ROWS = flags.DEFINE_integer("rows", None, "Use only so many training images.")
_POINTS = flags.DEFINE_integer("points", 20, "Points on each curve.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of weights and batches.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/autoencoder", "Where results go.")


def build_autoencoder(pixels: int, hidden: Sequence[int], activation: str) -> keras.Model:
    """Returns pixels -> hidden[0] -> ... -> hidden[-1] (linear code) -> ... -> pixels (linear)."""
    *widths, code = hidden
    layers = [keras.Input((pixels,))]
    layers += [keras.layers.Dense(width, activation=activation) for width in widths]
    layers += [keras.layers.Dense(code, name="code")]
    layers += [keras.layers.Dense(width, activation=activation) for width in reversed(widths)]
    layers += [keras.layers.Dense(pixels)]
    return keras.Sequential(layers)


def make_optimizer(name: str, batch_size: int) -> keras.optimizers.Optimizer:
    """Returns the optimizer of that name with the settings of the flags."""
    if name in _OURS:
        settings = {
            "krylov_dimension": _KRYLOV.value,
            "curvature_batch_size": _CURVATURE.value or max(batch_size // 4, 1),
        }
        return keras.optimizers.get(
            {"class_name": name, "config": {k: v for k, v in settings.items() if v is not None}}
        )
    try:
        optimizer = keras.optimizers.get(name)
    except ValueError:
        known = ", ".join((*_OURS, "adam", "sgd"))
        sys.exit(
            f"--optimizer={name} is neither ours nor Keras's. Use {known} or another of Keras's."
        )
    optimizer.learning_rate = _ADAM_RATE.value if name == "adam" else _SGD_RATE.value
    return optimizer


def _load(split: str) -> np.ndarray:
    return image_data.load_images(
        _DATASET.value, split, data_dir=_DATA_DIR.value, download=_DOWNLOAD.value
    )


def train(name: str, images: np.ndarray) -> tuple[keras.Model, timed_training.TimedTraining]:
    """Trains one network with one optimizer for --seconds; returns it and what was recorded."""
    keras.utils.set_random_seed(_SEED.value)
    widths = _HIDDEN.value or (
        "1000,500,250,30" if images.shape[1] >= 784 else "128,64,32,8"
    ).split(",")
    model = build_autoencoder(images.shape[1], [int(width) for width in widths], _ACTIVATION.value)
    ours = name in _OURS
    batch_size = min(_NEWTON_BATCH_SIZE.value if ours else _BATCH_SIZE.value, len(images))
    model.compile(optimizer=make_optimizer(name, batch_size), loss="mse")
    timer = timed_training.TimedTraining(
        name, images, _SECONDS.value, _POINTS.value, cosine=not ours
    )
    usable = len(images) // batch_size * batch_size
    # Batches of one size only: a last batch of another size would be compiled for by itself.
    model.fit(
        images[:usable],
        images[:usable],
        batch_size=batch_size,
        epochs=1_000_000,
        verbose=0,
        callbacks=[timer],
    )
    return model, timer


def write_losses(path: pathlib.Path, timers: dict[str, timed_training.TimedTraining]) -> None:
    """Writes one line a record."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["optimizer", "seconds", "steps", "mean_squared_error"])
        for name, timer in timers.items():
            writer.writerows([name, f"{s:.3f}", n, f"{loss:.8g}"] for s, n, loss in timer.records)


def plot_losses(path: pathlib.Path, timers: dict[str, timed_training.TimedTraining]) -> None:
    """Draws the loss against time, one curve an optimizer."""
    figure, axes = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    for name, timer in timers.items():
        seconds, _, losses = zip(*timer.records, strict=True)
        axes.plot(seconds, losses, marker=".", label=name)
    axes.set_yscale("log")
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("mean squared error, whole training set")
    axes.set_title(f"Deep autoencoder, {_DATASET.value}")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_reconstructions(
    path: pathlib.Path, images: np.ndarray, shape: tuple[int, ...], models: dict[str, keras.Model]
) -> None:
    """Draws ten test images above what each network makes of them."""
    rows = {"image": images}
    rows.update({name: model.predict(images, verbose=0) for name, model in models.items()})
    figure, grid = plt.subplots(
        len(rows), len(images), figsize=(len(images) * 0.8, len(rows) * 0.95), squeeze=False
    )
    for line, (name, pictures) in zip(grid, rows.items(), strict=True):
        line[0].set_title(name, loc="left", fontsize=8)
        for axes, picture in zip(line, pictures, strict=True):
            axes.imshow(np.clip(picture.reshape(shape), 0, 1), cmap="gray", vmin=0, vmax=1)
            axes.axis("off")
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)


def main(argv: Sequence[str]) -> None:
    """Trains with each optimizer in turn and writes the results."""
    if len(argv) > 1:
        sys.exit(f"Unknown arguments: {argv[1:]}. Every setting is a --flag.")
    logging.set_verbosity(logging.ERROR)  # TFDS tells of every file it opens.
    for name in _OPTIMIZER.value:
        make_optimizer(name, batch_size=1)  # A name that is unknown stops here, not in mid-run.
    images = _load("train")[: _ROWS.value]
    test = _load("test")[:10]
    flat = images.reshape(len(images), -1)

    models, timers = {}, {}
    for name in _OPTIMIZER.value:
        models[name], timers[name] = train(name, flat)

    output = pathlib.Path(_OUTPUT_DIR.value)
    output.mkdir(parents=True, exist_ok=True)
    write_losses(output / "losses.csv", timers)
    plot_losses(output / "loss.png", timers)
    picture_shape = test.shape[1:3] if test.shape[3] == 1 else test.shape[1:]
    plot_reconstructions(
        output / "reconstructions.png", test.reshape(len(test), -1), picture_shape, models
    )
    print(f"\n{'optimizer':24}{'first step':>12}{'steps':>8}{'final loss':>12}")
    for name, timer in timers.items():
        _, steps, loss = timer.records[-1]
        print(f"{name:24}{timer.first_step_seconds:10.1f} s{steps:8}{loss:12.6f}")
    print(f"Results in {output}/: loss.png, reconstructions.png, losses.csv")


if __name__ == "__main__":
    app.run(main)
