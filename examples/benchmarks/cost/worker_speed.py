r"""How much sooner several workers reach a loss than one, each with one core of this machine.

    python examples/benchmarks/cost/worker_speed.py

For each number of --workers that many processes train the digits autoencoder together, all rows in
each step, each process bound to a core of its own, until the loss of a step is below --loss. One
worker has no strategy. Written to --output_dir: workers.csv.
"""

from __future__ import annotations

import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[2]))

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import keras_sfn
from benchmarks.common import measure
from benchmarks.time_to_loss import tasks
from helpers import command_line, tables

_WORKERS = flags.DEFINE_list("workers", ["1", "2"], "Numbers of workers, one core each.")
_LOSS = flags.DEFINE_float("loss", 1e-3, "Where the clock stops.", lower_bound=0.0)
_ROWS = flags.DEFINE_integer(
    "rows",
    None,
    "Train on so many digits, repeated where that is more; all if unset.",
    lower_bound=2,
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the initial weights.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/workers", "Where results go.")

# All epochs have one iterator. At its end TensorFlow 2.21 waits, under a strategy with every
# optimizer, for the thread that tunes it: for as long as that sleeps, up to half a minute.
_STEPS_AN_EPOCH = 20
_MOST_EPOCHS = 150

# By which a process knows that it is a worker.
_CORE = "KERAS_SFN_CORE"


class Speed(NamedTuple):
    """How fast a number of workers was.

    Attributes:
        workers: How many.
        first: Seconds to the end of the first step, compilation included.
        seconds: From there to the loss.
        steps: Until then.
        loss: That was reached.
    """

    workers: int
    first: float
    seconds: float
    steps: int
    loss: float


class Clock(keras.callbacks.Callback):
    """Stops the training below a loss."""

    def __init__(self, loss: float) -> None:
        super().__init__()
        self._loss = loss
        self._start = time.perf_counter()
        self.seconds: list[float] = []
        self.last = float("inf")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Reads the clock."""
        self.seconds.append(time.perf_counter() - self._start)
        self.last = self.model.optimizer.last_step.loss
        if self.last <= self._loss:
            self.model.stop_training = True


def work(workers: int) -> Speed:
    """Trains as one of so many workers; returns how long it took."""
    strategy = tf.distribute.get_strategy()
    if workers > 1:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    task = tasks.digits_autoencoder()
    rows = np.resize(np.arange(task.rows), _ROWS.value or task.rows)
    inputs = task.inputs[rows]
    keras.utils.set_random_seed(_SEED.value)
    with strategy.scope():
        model = task.build(_SEED.value)
        # As it is found out for batches that are all the same.
        model.compile(keras_sfn.SaddleFreeNewton(stochastic=False), loss="mse")
    batches = tf.data.Dataset.from_tensors((inputs, inputs)).repeat()
    clock = Clock(_LOSS.value)
    model.fit(
        batches,
        epochs=_MOST_EPOCHS,
        steps_per_epoch=_STEPS_AN_EPOCH,
        shuffle=False,
        verbose=0,
        callbacks=[clock],
    )
    first, last = clock.seconds[0], clock.seconds[-1]
    return Speed(workers, first, last - first, len(clock.seconds), clock.last)


def start(workers: int) -> Speed:
    """Runs this script as so many workers and returns what the first of them found.

    Raises:
        SystemExit: One of them failed.
    """
    cores = sorted(os.sched_getaffinity(0))
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(workers)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    processes = []
    for index in range(workers):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        env = os.environ | {_CORE: str(cores[index]), "TF_CONFIG": json.dumps(task)}
        processes.append(
            subprocess.Popen([sys.executable, *sys.argv], env=env, stdout=subprocess.PIPE)
        )
    output = [process.communicate()[0].decode() for process in processes]
    if any(process.returncode for process in processes):
        sys.exit(f"One of {workers} workers failed; its output is above.")
    return Speed(*json.loads(output[0].strip().splitlines()[-1]))


def main(argv: Sequence[str]) -> None:
    """Is a worker where that is asked for, and starts some where not."""
    command_line.refuse_arguments(argv)
    if _CORE in os.environ:
        cluster = json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"]
        print(json.dumps(work(len(cluster))))
        return
    numbers = [int(number) for number in _WORKERS.value if number.isdigit()]
    cores = len(os.sched_getaffinity(0))
    if len(numbers) != len(_WORKERS.value) or not all(0 < number <= cores for number in numbers):
        sys.exit(
            f"--workers={','.join(_WORKERS.value)} must be integers from 1 to the {cores} cores "
            "of this machine, such as --workers=1,2."
        )
    output = command_line.output_directory(_OUTPUT_DIR.value)
    speeds = []
    for number in numbers:
        speeds.append(start(number))
        print(speeds[-1], flush=True)
    tables.write_csv(output / "workers.csv", Speed._fields, speeds, measure.versions())
    print(f"Results in {output}/: workers.csv")


# Before TensorFlow counts the cores for its threads.
if _CORE in os.environ:
    os.sched_setaffinity(0, {int(os.environ[_CORE])})

if __name__ == "__main__":
    app.run(main)
