"""The arguments of the optimizers: which values they take, and what a step makes of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_sfn import validation
from keras_sfn.curvature import products
from keras_sfn.newton import damping as damping_lib
from keras_sfn.newton import subspaces

DEFAULT_DAMPING_GRID = (1e1, 1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)

# What "auto" stands for, by the kind of step: what did best over the tasks of docs/benchmarks.md.
# Through a loop the approximation of the curvature is rougher, and more directions pay.
_AUTO: dict[str, dict[str, Any]] = {
    "kronecker": {"krylov_dimension": 1, "damping": "adaptive", "curvature_batch_size": "auto"},
    "kronecker, loops": {
        "krylov_dimension": 3,
        "damping": "adaptive",
        "curvature_batch_size": "auto",
    },
    "krylov": {"krylov_dimension": 10, "damping": "search", "curvature_batch_size": None},
}

# Rows of a batch whose curvature is taken under "auto": one in so many, and not fewer than these.
_CURVATURE_SHARE = 16
_LEAST_CURVATURE_ROWS = 256

# What an optimizer has that does not take the argument.
_ABSENT = {
    "curvature_batch_size": None,
    "inner_steps": 1,
    "jit_compile": "auto",
    "krylov_dimension": None,
    "micro_batch_size": None,
    "reorthogonalize": True,
    "seed": 0,
    "use_previous_step": False,
}


def complete(options: dict[str, Any]) -> dict[str, Any]:
    """Checks arguments and returns them with what stands in for those not taken.

    Raises:
        ValueError: One is out of range, or contradicts another.
    """
    for name, value in options.items():
        if name in _CHECKS:
            _CHECKS[name](name, value)
    complete = _ABSENT | options
    if complete["krylov_dimension"] is None:
        if complete["jit_compile"] is True:
            raise ValueError(
                "`jit_compile` cannot be True with the whole Hessian, whose eigenvalues XLA takes "
                "minutes for. Received: jit_compile=True, krylov_dimension=None. Use "
                'jit_compile="auto", or an integer `krylov_dimension`.'
            )
        complete["use_previous_step"] = False
    return complete


def kinds(options: dict[str, Any]) -> tuple[str, ...]:
    """Returns the kinds of step that completed options leave open.

    "kronecker" has preconditioned directions, "kronecker, loops" is the same for a loss with loops,
    "krylov" has a plain Krylov space (or the whole). The first that the loss allows is taken.
    """
    if options["krylov_dimension"] == "auto":
        return ("kronecker", "kronecker, loops", "krylov")
    return ("krylov",)


def resolved(options: dict[str, Any], kind: str) -> dict[str, Any]:
    """Returns completed options with values in the place of "auto", and `preconditioner`.

    Args:
        options: Completed options.
        kind: One of `kinds(options)`.
    """
    chosen = {name: value for name, value in _AUTO[kind].items() if options[name] == "auto"}
    return options | chosen | {"preconditioner": None if kind == "krylov" else "kronecker"}


def curvature_rows(wanted: int | str, rows: Any) -> Any:
    """Returns of how many rows of a batch the curvature is taken.

    Args:
        wanted: A number of rows, or "auto".
        rows: Of the batch, a scalar tensor.
    """
    if wanted == "auto":
        wanted = tf.maximum(rows // _CURVATURE_SHARE, _LEAST_CURVATURE_ROWS)
    return tf.minimum(wanted, rows)


def part_of_rows(index: Any, count: int, rows: Any) -> tuple[Any, Any]:
    """Returns start and length of the i-th of `count` parts of a batch, which together are all.

    They overlap where the rows of one would be too few.

    Args:
        index: Scalar integer, i.
        count: Of the parts, at least 2.
        rows: Of the batch, a scalar tensor.
    """
    size = tf.minimum(tf.maximum(-(-rows // count), _LEAST_CURVATURE_ROWS), rows)
    return index * (rows - size) // (count - 1), size


def settings(
    options: dict[str, Any], direction: Callable[..., Any], leave_saddles: bool
) -> subspaces.Settings:
    """Returns what a step is traced with, from resolved options."""
    return subspaces.Settings(
        damping=_damping_policy(options["damping"]),
        krylov_dimension=options["krylov_dimension"],
        inner_steps=options["inner_steps"],
        reorthogonalize=options["reorthogonalize"],
        max_step_norm=options["max_step_norm"],
        direction=direction,
        leave_saddles=leave_saddles,
    )


def check_keras_options(options: dict[str, Any]) -> None:
    """Checks the arguments that are Keras's own.

    Raises:
        ValueError: One is unknown, not supported, or out of range.
    """
    rest = dict(options)
    validation.within("weight_decay", rest.pop("weight_decay"), 0, math.inf, optional=True)
    validation.boolean("use_ema", rest.pop("use_ema"))
    validation.within("ema_momentum", rest.pop("ema_momentum"), 0, 1)
    frequency = rest.pop("ema_overwrite_frequency")
    validation.integer_at_least("ema_overwrite_frequency", frequency, 1, optional=True)
    for known in ("learning_rate", "name"):
        rest.pop(known)
    validation.refuse_keras_options(rest)


def _count(name: str, value: Any) -> None:
    validation.integer_at_least(name, value, 1)


def _optional_count(name: str, value: Any) -> None:
    validation.integer_at_least(name, value, 1, optional=True)


def _count_or_auto(name: str, value: Any) -> None:
    if value != "auto":
        validation.integer_at_least(name, value, 1, optional=True)


def _damping(name: str, value: Any) -> None:
    if not (isinstance(value, str) and value == "auto"):
        _damping_policy(value)


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "curvature_batch_size": _count_or_auto,
    "damping": _damping,
    "hvp_mode": lambda name, value: validation.one_of(name, value, products.HVP_MODES),
    "inner_steps": _count,
    "jit_compile": lambda name, value: validation.one_of(name, value, (True, False, "auto")),
    "krylov_dimension": _count_or_auto,
    "max_step_norm": lambda name, value: validation.positive(name, value, optional=True),
    "micro_batch_size": _optional_count,
    "reorthogonalize": validation.boolean,
    "seed": lambda name, value: validation.integer_at_least(name, value, 0),
    "use_previous_step": validation.boolean,
}


def _damping_policy(damping: str | float | Sequence[float]) -> damping_lib.Damping:
    if isinstance(damping, str) and damping == "search":
        return damping_lib.SearchDamping(DEFAULT_DAMPING_GRID)
    if isinstance(damping, str) and damping == "adaptive":
        return damping_lib.AdaptiveDamping()
    if isinstance(damping, Sequence) and not isinstance(damping, str):
        return damping_lib.SearchDamping(validation.positive_values("damping", damping))
    return damping_lib.FixedDamping(validation.damping_value(damping))
