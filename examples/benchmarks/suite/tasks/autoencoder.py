"""A deep autoencoder of scikit-learn's 1,797 digits."""

from __future__ import annotations

import numpy as np
import sklearn.datasets

from benchmarks.common import task as task_lib
from benchmarks.suite import entry as entry_lib
from helpers import autoencoder_network


def entry(form: entry_lib.Form) -> entry_lib.Entry:
    """Returns the task: 64-128-64-32-8 and back, tanh, code and output linear."""
    rows, hidden = (64, [8, 3]) if form.quick else (None, [128, 64, 32, 8])
    pixels = sklearn.datasets.load_digits().data[:rows].astype(np.float32) / 16
    task = task_lib.Task(
        "autoencoder",
        pixels,
        pixels,
        lambda seed: autoencoder_network.build_autoencoder(
            64, hidden, "tanh", "glorot_uniform", seed
        ),
    )
    return entry_lib.Entry(task, True, None, (128, 64, 256))
