r"""Saddle-free Newton on several machines, or two processes of this one for a try-out.

    python examples/distributed.py

without TF_CONFIG starts --workers processes on this machine that train one autoencoder together,
then trains the same on one device and shows that the steps are the same. On real hosts, start it on
every one, with the addresses of all and its own number:

    TF_CONFIG='{"cluster": {"worker": ["host0:2222", "host1:2222"]},
                "task": {"type": "worker", "index": 0}}' \
        python examples/distributed.py --output_dir=/shared/run1

--output_dir must be on a file system that all hosts see: a run that ended because a worker died
goes on from its last epoch when all workers are started again with the same flags. Written there by
the first worker: losses.csv, model.keras; by the try-out also loss.png.
"""

from __future__ import annotations

import csv
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

import keras
import matplotlib
import numpy as np
import tensorflow as tf
from absl import app, flags, logging

import keras_sfn  # noqa: F401, for the name of the optimizer
from helpers import command_line, image_data

matplotlib.use("Agg")
from matplotlib import pyplot as plt

_WORKERS = flags.DEFINE_integer(
    "workers", 2, "Processes of the try-out; not used where TF_CONFIG is set.", lower_bound=1
)
_DATASET = flags.DEFINE_string("dataset", "digits", "An image set of TensorFlow Datasets.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where prepared sets lie; TFDS's own if unset.")
_DOWNLOAD = flags.DEFINE_bool("download", False, "Whether the set may be fetched.")
_ROWS = flags.DEFINE_integer("rows", None, "Train on so many rows only.", lower_bound=2)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", None, "Rows of a batch over all replicas; all rows if unset.", lower_bound=1
)
_EPOCHS = flags.DEFINE_integer("epochs", 20, "Passes over the data.", lower_bound=1)
_QUICK = flags.DEFINE_bool("quick", False, "200 rows and three epochs, for a try-out.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the initial weights.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/distributed", "Where results go.")


def load_images() -> np.ndarray:
    """Returns the training images, shape (rows, pixels)."""
    images = image_data.load_images(
        _DATASET.value, "train", data_dir=_DATA_DIR.value, download=_DOWNLOAD.value
    )
    rows = 200 if _QUICK.value else _ROWS.value
    return images.reshape(len(images), -1)[:rows]


def build_model(pixels: int) -> keras.Model:
    """Returns a compiled autoencoder; to be called under the strategy's scope."""
    keras.utils.set_random_seed(_SEED.value)
    layers = [keras.Input((pixels,))]
    layers += [keras.layers.Dense(width, activation="tanh") for width in (64, 16, 64)]
    layers += [keras.layers.Dense(pixels)]
    model = keras.Sequential(layers)
    model.compile("saddle_free_newton", loss="mse")
    return model


def train(
    model: keras.Model, images: np.ndarray, callbacks: Sequence[keras.callbacks.Callback]
) -> None:
    """Trains on the images; each replica takes its part of every batch."""
    batches = tf.data.Dataset.from_tensor_slices((images, images))
    batches = batches.batch(_BATCH_SIZE.value or len(images))
    epochs = 3 if _QUICK.value else _EPOCHS.value
    model.fit(batches, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)


class Losses(keras.callbacks.Callback):
    """Appends a line an epoch to a file, and prints it.

    Args:
        path: The file, with a head line; None writes none.
        name: Printed before the line.
    """

    def __init__(self, path: pathlib.Path | None, name: str) -> None:
        super().__init__()
        self.losses: dict[int, float] = {}
        self._path = path
        self._name = name
        self._start = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes epoch, seconds of this run, and the loss before the steps of the epoch."""
        loss, seconds = float((logs or {})["loss"]), time.monotonic() - self._start
        self.losses[epoch] = loss
        print(f"{self._name}: epoch {epoch + 1}, loss {loss:.6f}, {seconds:.1f} s", flush=True)
        if self._path is not None:
            with self._path.open("a", newline="") as file:
                csv.writer(file).writerow([epoch + 1, f"{seconds:.3f}", f"{loss:.8g}"])


def is_chief(resolver: tf.distribute.cluster_resolver.ClusterResolver) -> bool:
    """Whether this process is the one that writes: TF_CONFIG's "chief", or the first worker."""
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return resolver.task_id == 0


def work() -> None:
    """Trains as one of the workers that TF_CONFIG names."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    chief = is_chief(strategy.cluster_resolver)
    images, output = load_images(), command_line.output_directory(_OUTPUT_DIR.value)
    with strategy.scope():
        model = build_model(images.shape[1])
    # One worker writes for all, since all hold the same; the others only read it.
    backup = keras.callbacks.BackupAndRestore(
        output / "backup", save_freq="epoch" if chief else sys.maxsize, delete_checkpoint=chief
    )
    callbacks = [backup]
    if chief:
        path = output / "losses.csv"
        if not (output / "backup").exists():
            path.write_text("epoch,seconds,loss\n")
        callbacks.insert(0, Losses(path, f"{strategy.num_replicas_in_sync} replicas"))
    train(model, images, callbacks)
    if chief:
        print(f"Kind of step: {model.optimizer.last_step.kind}", flush=True)
        model.save(output / "model.keras")


def start_workers() -> None:
    """Runs this script --workers times on this machine and waits for all.

    Raises:
        SystemExit: One of them failed.
    """
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(_WORKERS.value)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    devices = len(tf.config.list_physical_devices("GPU"))
    workers = []
    for index in range(_WORKERS.value):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        # A GPU each, or none: TensorFlow takes all of the memory of those that it sees.
        gpu = str(index) if devices >= _WORKERS.value else "-1"
        env = os.environ | {"TF_CONFIG": json.dumps(task), "CUDA_VISIBLE_DEVICES": gpu}
        workers.append(subprocess.Popen([sys.executable, *sys.argv], env=env))
    try:
        while any(worker.poll() is None for worker in workers):
            if any(worker.poll() for worker in workers):
                break
            time.sleep(0.2)
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
    for index, worker in enumerate(workers):
        if worker.wait():
            sys.exit(
                f"Worker {index} ended with code {worker.returncode}; its output is above. Run the "
                "same command again: training goes on from the last whole epoch."
            )


def compare(images: np.ndarray) -> None:
    """Trains the same on one device; prints and draws how far the losses are apart."""
    output = pathlib.Path(_OUTPUT_DIR.value)
    with (output / "losses.csv").open() as file:
        ours = {int(row["epoch"]) - 1: float(row["loss"]) for row in csv.DictReader(file)}
    one = Losses(None, "one device")
    train(build_model(images.shape[1]), images, [one])
    difference = max(abs(ours[epoch] / loss - 1) for epoch, loss in one.losses.items())
    print(f"Largest relative difference of the losses of an epoch: {difference:.1e}")
    figure, axes = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    axes.plot(list(ours), list(ours.values()), "o", label=f"{_WORKERS.value} workers")
    axes.plot(list(one.losses), list(one.losses.values()), "-", label="one device")
    axes.set(xlabel="epoch", ylabel="mean squared error", yscale="log", title=_DATASET.value)
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(output / "loss.png", dpi=120)
    plt.close(figure)
    print(f"Results in {output}/: losses.csv, loss.png, model.keras")


def main(argv: Sequence[str]) -> None:
    """Is a worker where TF_CONFIG is set, and starts some where it is not."""
    command_line.refuse_arguments(argv)
    logging.set_verbosity(logging.ERROR)  # TFDS tells of every file it opens.
    if "TF_CONFIG" in os.environ:
        work()
        return
    images = load_images()  # Prepares the set once, before the workers look for it.
    start_workers()
    compare(images)


if __name__ == "__main__":
    app.run(main)
