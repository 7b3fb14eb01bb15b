"""Takes two steps on an autoencoder in `fit`, and prints the peak memory of this process as JSON.

`iteration_cost.py --memory` runs it.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Sequence

import deep_autoencoder
import measure
import newton_options
from absl import app, flags

_WIDTHS = flags.DEFINE_list("widths", ["12", "8", "4"], "Pixels, and widths down to the code.")
_ROWS = flags.DEFINE_integer("rows", 8, "Rows of the batch.", lower_bound=1)
_KRYLOV = flags.DEFINE_integer("krylov_dimension", 10, "Lanczos vectors a step.", lower_bound=1)
_NEWTON = flags.DEFINE_string("newton", "", "Other arguments of the optimizer.")

# What the system counts in.
_UNIT = 1 if sys.platform == "darwin" else 1024


def main(argv: Sequence[str]) -> None:
    """Trains and prints."""
    measure.refuse_arguments(argv)
    widths = measure.positive_integers("widths", _WIDTHS.value, least=2)
    optimizer = newton_options.optimizer("newton", _NEWTON.value, krylov_dimension=_KRYLOV.value)
    model = deep_autoencoder.build(widths)
    model.compile(optimizer, "mse")
    images = deep_autoencoder.batch(widths, _ROWS.value).numpy()
    # The first step compiles; the second is one like all later ones.
    model.fit(images, images, batch_size=_ROWS.value, epochs=2, verbose=0)
    figures = {
        "parameters": model.count_params(),
        "basis_rows": len(optimizer.last_step.ritz_values),
        "peak_bytes": _UNIT * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    app.run(main)
