"""Published errors of physics-informed networks over time, to stand beside runs.

The figures in `TABLES` are those of the sources below. Where the user has a copy of the first
source, `read` takes them from its CSV files instead.

- f-dangel/kfac-pinns-experiments, of Dangel, Mueller, Zeinhofer, Kronecker-factored approximate
  curvature for physics-informed neural networks (2024): the best run of each sweep, on a GPU,
  seconds without compilation (PyTorch has none). Root mean square errors on 9,000 random points.
- Rathore et al., Challenges in training PINNs: a loss landscape perspective (2024), arXiv
  2402.01868: relative L2 errors at the end of some ten thousand iterations on a GPU, the best of
  several widths and learning rates.
"""

from __future__ import annotations

import ast
import csv
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

# Seconds at which errors are compared.
TIMES = (10, 60, 100, 300, 1000)

# By so much the last record of a run may be late: it comes when the time is over.
_LATE = 1.01


class Table(NamedTuple):
    """Published errors of one set-up.

    Attributes:
        source: Who published them.
        figure: `"rms_error"` or `"relative_error"`.
        folder: With the CSV files, in a copy of the source; empty where there are none.
        errors: Method -> error at each of `TIMES`, None where there is none; none in `end`.
        end: Method -> error at the end, where no times were published.
    """

    source: str
    figure: str
    folder: str
    errors: Mapping[str, Sequence[float | None]]
    end: Mapping[str, float]


_DANGEL = "Dangel et al. 2024"
_RATHORE = "Rathore et al. 2024"


def _rathore(lbfgs: float, newton: float) -> Table:
    end = {"Adam + L-BFGS": lbfgs, "Adam + L-BFGS + Nystroem-Newton-CG": newton}
    return Table(_RATHORE, "relative_error", "", {}, end)


# By equation and widths of the network; no widths where the best of several is published.
TABLES: dict[tuple[str, tuple[int, ...]], Table] = {
    ("poisson", (64,)): Table(
        _DANGEL,
        "rms_error",
        "kfac_pinns_exp/exp09_reproduce_poisson2d/best_runs",
        {
            "Adam": (6.8e-2, 2.0e-3, 8.7e-4, 4.8e-3, 9.4e-5),
            "Hessian-free": (2.3e-3, 1.2e-5, 8.0e-6, 7.6e-7, 3.2e-7),
            "KFAC": (4.4e-3, 1.8e-5, 1.3e-5, 1.8e-6, 3.4e-7),
            "KFAC*": (3.2e-3, 4.7e-5, 5.1e-6, 2.1e-6, 2.0e-7),
            "L-BFGS": (4.6e-3, 1.8e-4, 1.8e-4, 1.8e-4, 1.8e-4),
            "SGD": (1.1e-2, 2.0e-4, 1.8e-4, 6.7e-5, 3.6e-5),
            "energy natural gradient, diagonal": (4.8e-2, 3.8e-2, 3.4e-2, 2.0e-2, 5.4e-3),
            "energy natural gradient, full": (1.6e-1, 1.8e-2, 2.2e-2, 7.2e-3, 6.2e-8),
            "energy natural gradient, per layer": (5.4e-2, 9.1e-6, 9.0e-7, 6.5e-8, 6.3e-8),
        },
        {},
    ),
    ("heat", (64,)): Table(
        _DANGEL,
        "rms_error",
        "kfac_pinns_exp/exp13_reproduce_heat1d/best_runs",
        {
            "Adam": (1.9e-2, 1.3e-3, 7.3e-4, 2.6e-4, 1.2e-4),
            "Hessian-free": (3.6e-3, 7.4e-5, 3.3e-5, 3.6e-6, 6.2e-7),
            "KFAC": (3.3e-2, 8.3e-4, 3.7e-4, 1.2e-5, 1.9e-6),
            "KFAC*": (8.4e-4, 3.3e-5, 2.3e-5, 5.7e-6, 8.8e-7),
            "L-BFGS": (5.9e-3, 2.7e-4, 2.7e-4, 2.7e-4, 2.7e-4),
            "SGD": (1.7e-2, 4.1e-3, 1.5e-3, 6.6e-4, 2.8e-4),
            "energy natural gradient, diagonal": (8.2e-2, 1.7e-2, 1.4e-2, 6.8e-3, 2.9e-3),
            "energy natural gradient, full": (1.1e-1, 4.1e-6, 5.2e-7, 5.2e-8, 3.0e-8),
            "energy natural gradient, per layer": (1.5e-1, 3.4e-2, 1.1e-2, 7.9e-8, 3.6e-8),
        },
        {},
    ),
    ("poisson", (64, 64, 48, 48)): Table(
        _DANGEL,
        "rms_error",
        "kfac_pinns_exp/exp15_poisson2d_deepwide/best_runs",
        {
            "Adam": (5.8e-2, 3.9e-2, 1.6e-2, 1.5e-3, 2.1e-4),
            "Hessian-free": (4.2e-3, 5.8e-4, 1.5e-4, 4.3e-6, 1.3e-6),
            "KFAC": (3.0e-2, 4.1e-4, 1.3e-4, 2.1e-5, 7.0e-6),
            "KFAC*": (3.6e-3, 2.2e-5, 1.1e-5, 2.1e-6, 7.9e-7),
            "L-BFGS": (4.5e-2, 5.3e-4, 3.4e-4, 3.4e-4, None),
            "SGD": (5.7e-2, 3.2e-2, 1.7e-2, 1.6e-3, 5.6e-4),
            "energy natural gradient, diagonal": (9.8e-1, 9.1e-2, 8.9e-2, 6.4e-2, 3.4e-2),
            "energy natural gradient, full": (None, None, None, None, 3.8e-1),
            "energy natural gradient, per layer": (None, 3.1e-1, 5.8e-1, 3.4e-1, 9.5e-5),
        },
        {},
    ),
    ("convection", ()): _rathore(4.2e-3, 1.9e-3),
    ("reaction", ()): _rathore(1.9e-2, 9.9e-3),
    ("wave", ()): _rathore(5.5e-2, 1.3e-2),
}


def table(equation: str, hidden: Sequence[int]) -> Table | None:
    """Returns what was published for an equation and a network, or None."""
    return TABLES.get((equation, tuple(hidden)), TABLES.get((equation, ())))


def read(folder: pathlib.Path) -> dict[str, list[float | None]]:
    """Returns errors at `TIMES` by method, from the CSV files of one experiment of the source.

    Args:
        folder: Its `best_runs`, with files NAME_best_history.csv and NAME_best_meta.csv.

    Raises:
        FileNotFoundError: There are none.
    """
    histories = sorted(folder.glob("*_best_history.csv"))
    if not histories:
        raise FileNotFoundError(
            f"There must be files NAME_best_history.csv in {folder}. Received: a folder without. "
            "Pass the root of a copy of f-dangel/kfac-pinns-experiments."
        )
    found: dict[str, list[float | None]] = {}
    for history in histories:
        meta = history.with_name(history.name.replace("_history", "_meta"))
        with meta.open() as file:
            config = ast.literal_eval(next(csv.DictReader(file))["config"])
        with history.open() as file:
            lines = [line for line in csv.DictReader(file) if line["l2_error"]]
        pairs = [(float(line["time"]), float(line["l2_error"])) for line in lines]
        found[_method(config)] = at_times(pairs)
    return dict(sorted(found.items()))


def at_times(pairs: Sequence[tuple[float, float]]) -> list[float | None]:
    """Returns the error of the last record by each of `TIMES`.

    Args:
        pairs: Seconds and error of each record, in order.

    Returns:
        None where a run had no record yet, or was over.
    """
    found: list[float | None] = []
    end = pairs[-1][0] if pairs else 0.0
    for limit in TIMES:
        last = _LATE * limit if limit / _LATE <= end <= _LATE * limit else limit
        before = [error for seconds, error in pairs if seconds <= last]
        reached = before and end >= limit / _LATE and math.isfinite(before[-1])
        found.append(before[-1] if reached else None)
    return found


def _method(config: Mapping[str, object]) -> str:
    name = str(config["optimizer"])
    if name == "ENGD":
        return f"energy natural gradient, {str(config['ENGD_approximation']).replace('_', ' ')}"
    names = {"HessianFree": "Hessian-free", "LBFGS": "L-BFGS"}
    return names.get(name, name) + ("*" if config.get("KFAC_lr") == "auto" else "")
