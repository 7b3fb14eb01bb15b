"""What the optimizers share of their arguments: one text each, and how they are handed on."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import Any, TypeVar

import keras

_TEXTS = {
    "learning_rate": """
        Float, `keras.optimizers.schedules.LearningRateSchedule` or callable; factor on the step.
        1.0 is the full Newton-like step. A float below 0.01, as one would give Adam, is warned
        of.""",
    "damping": """
        `"search"` looks along a grid, 10, 1, ... 1e-6 times the largest |Ritz value|, for the
        lowest loss of the batch. The first step, and one after a rejection, tries the whole grid;
        later ones both sides of the last value. A list of floats > 0 is such a grid. `"adaptive"`
        follows the reduction ratio (Levenberg-Marquardt). A float >= 0 is used as it is, in units
        of curvature. `"auto"` is the first, or the third with preconditioned directions. Under all
        but a float a step that does not lower the loss of its batch is rejected and leaves the
        parameters.""",
    "curvature_batch_size": """
        Integer >= 1, None (all rows) or `"auto"`. The Hessian is that of so many rows, evenly
        spaced over the batch; loss and gradient always see all rows. A number needs losses that are
        means over rows (Keras's default), and `fit`. `"auto"` is all rows, but with preconditioned
        directions.""",
    "micro_batch_size": """
        Integer >= 1 or None. A batch with more rows is evaluated in slices of so many, and
        activations take the memory of one slice. The step is the same to rounding, but that
        BatchNormalization normalises each slice by its own statistics, and that the
        preconditioner's samples are others. Needs losses that are means
        over rows, and `fit`.""",
    "use_previous_step": """
        Whether the last accepted step joins the subspace, at the cost of one more product.""",
    "reorthogonalize": """
        Whether the basis is kept orthonormal, to the root of the precision: earlier vectors are
        taken out of a new one where rounding has brought them back.""",
    "hvp_mode": """
        How Hessian-vector products are taken: `"forward_over_reverse"`, `"reverse_over_reverse"`,
        or `"auto"`: the second, and the first where the loss uses forward mode itself.""",
    "max_step_norm": """
        Float > 0 or None, the largest Euclidean norm of a step.""",
    "jit_compile": """
        Whether the step is compiled by XLA; `"auto"` decides by device and model, on a CPU also
        from which step on, and is True with `compile(jit_compile=True)`.""",
    "seed": """
        Integer, seeds the random directions that follow a breakdown of the Krylov space.""",
    "weight_decay": """
        Float or None, decoupled weight decay as in Keras; not applied by a rejected step.""",
    "use_ema": """
        As in every Keras optimizer.""",
    "ema_momentum": """
        As in every Keras optimizer.""",
    "ema_overwrite_frequency": """
        As in every Keras optimizer.""",
    "name": """
        Name of the optimizer.""",
}

_Optimizer = TypeVar("_Optimizer", bound=type[keras.optimizers.Optimizer])


def documented(optimizer: _Optimizer) -> _Optimizer:
    """Puts the shared texts into a class docstring, in the place of lines `{{argument}}`.

    Args:
        optimizer: The class.

    Raises:
        KeyError: There is no text for an argument.
    """

    def text_of(line: re.Match[str]) -> str:
        indent, name = line.groups()
        words = f"{name}: {' '.join(_TEXTS[name].split())}"
        return textwrap.fill(words, 100, initial_indent=indent, subsequent_indent=indent + 4 * " ")

    optimizer.__doc__ = re.sub(
        r"^( *)\{\{(\w+)\}\}$", text_of, optimizer.__doc__ or "", flags=re.MULTILINE
    )
    return optimizer


def named(of_constructor: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments that a constructor names, from its `locals()`."""
    others = ("self", "kwargs", "__class__")
    return {name: value for name, value in of_constructor.items() if name not in others}
