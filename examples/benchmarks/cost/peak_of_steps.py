"""Takes some steps on an autoencoder in `fit`, and prints as JSON how much memory they took.

`iteration_cost.py --memory` runs it.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import resource
import sys
import tempfile
from collections.abc import Sequence

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[2]))

# Only this allocator of a CPU counts bytes; on some processors it is not the default.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import tensorflow as tf
from absl import app, flags

from benchmarks.common import deep_autoencoder, newton_options
from helpers import command_line

_WIDTHS = flags.DEFINE_list("widths", ["12", "8", "4"], "Pixels, and widths down to the code.")
_ROWS = flags.DEFINE_integer("rows", 8, "Rows of the batch.", lower_bound=1)
_KRYLOV = flags.DEFINE_string("krylov_dimension", "10", "Lanczos vectors a step, or auto.")
_NEWTON = flags.DEFINE_string("newton", "", "Other arguments of the optimizer.")

_MORE_STEPS = 3


def main(argv: Sequence[str]) -> None:
    """Trains and prints."""
    command_line.refuse_arguments(argv)
    widths = command_line.positive_integers("widths", _WIDTHS.value, least=2)
    [dimension] = newton_options.krylov_dimensions("krylov_dimension", [_KRYLOV.value])
    optimizer = newton_options.optimizer("newton", _NEWTON.value, krylov_dimension=dimension)
    model = deep_autoencoder.build(widths)
    model.compile(optimizer, "mse")
    images = deep_autoencoder.batch(widths, _ROWS.value).numpy()
    before = _process_bytes()
    with tempfile.TemporaryDirectory() as folder:
        # What XLA reserves for a program it writes down only when told where to.
        dump = f"--xla_dump_to={folder} --xla_dump_hlo_as_text"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {dump}".strip()
        model.fit(images, images, batch_size=_ROWS.value, verbose=0)
        programs = _program_bytes(pathlib.Path(folder))
        # The first step compiles; the others are like all later ones.
        device, *_ = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        tf.config.experimental.reset_memory_stats(device.name)
        model.fit(images, images, batch_size=_ROWS.value, epochs=_MORE_STEPS, verbose=0)
        compiled_later = len(_program_bytes(pathlib.Path(folder))) - len(programs)
    figures = {
        "parameters": model.count_params(),
        "basis_rows": len(optimizer.last_step.ritz_values),
        "program_bytes": max(programs, default=None),
        "compiled_later": compiled_later,
        "allocated_bytes": tf.config.experimental.get_memory_info(device.name)["peak"],
        "process_bytes": _process_bytes() - before,
    }
    print(json.dumps(figures))


def _program_bytes(folder: pathlib.Path) -> list[int]:
    """Returns what XLA reserves for each of its programs, with arguments."""
    totals = [
        re.search(r"Total bytes used: (\d+)", path.read_text())
        for path in folder.glob("*buffer-assignment.txt")
    ]
    return [int(total[1]) for total in totals if total]


def _process_bytes() -> int:
    """Returns the peak of this process so far."""
    status = pathlib.Path("/proc/self/status")
    if not status.exists():  # macOS
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # On Linux `getrusage` starts with the peak of the process that started this one.
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return 1024 * int(lines["VmHWM"].split()[0])


if __name__ == "__main__":
    app.run(main)
