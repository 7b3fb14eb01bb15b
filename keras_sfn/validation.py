"""Checks of constructor arguments; errors name the argument, the rule, the value, the remedy."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

# Characters of a value that an error shows: what comes after it is the remedy.
_LONGEST = 200

REFUSED_KERAS_OPTIONS = {
    "clipnorm": "It would cut the step of each variable by itself; set `max_step_norm` instead.",
    "clipvalue": "It would cut single coordinates of a step; set `max_step_norm` instead.",
    "global_clipnorm": "It would rescale steps, not gradients; set `max_step_norm` instead.",
    "gradient_accumulation_steps": "It would average steps, not gradients; use a larger batch.",
    "loss_scale_factor": "It would divide steps by a constant; use float32 or mixed_bfloat16.",
}


def refuse_keras_options(options: dict[str, Any]) -> None:
    """Raises for every option that is set, with the reason where Keras knows the option."""
    for name, value in options.items():
        if name not in REFUSED_KERAS_OPTIONS:
            raise ValueError(
                f"`{name}` is not an argument of this optimizer. Received: {name}={shown(value)}. "
                "See the arguments in `help(keras_sfn.SaddleFreeNewton)`."
            )
        if value is not None:
            raise ValueError(
                f"`{name}` is not supported by `keras_sfn` optimizers. Received: "
                f"{name}={shown(value)}. {REFUSED_KERAS_OPTIONS[name]}"
            )


def integer_at_least(
    name: str, value: Any, least: int, *, optional: bool = False, auto: bool = False
) -> None:
    """Raises unless `value` is an integer >= `least`, or one of the alternatives.

    Args:
        name: Of the argument.
        value: Of the argument.
        least: The least integer.
        optional: Whether None is one of them.
        auto: Whether `"auto"` is one of them.
    """
    if (optional and value is None) or (auto and isinstance(value, str) and value == "auto"):
        return
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        others = [text for text, allowed in (('"auto"', auto), ("None", optional)) if allowed]
        rule = ", ".join([f"an integer >= {least}", *others[:-1]])
        rule = " or ".join([rule, *others[-1:]])
        raise ValueError(
            f"`{name}` must be {rule}. Received: {name}={shown(value)}. "
            f"Use {name}={least} or more{''.join(f', or {text}' for text in others)}."
        )


def positive(name: str, value: Any, *, optional: bool = False) -> None:
    """Raises unless `value` is a finite number > 0 (or None where `optional`)."""
    if optional and value is None:
        return
    if not _is_number(value) or not 0 < value < math.inf:
        raise ValueError(
            f"`{name}` must be a finite number > 0{' or None' if optional else ''}. "
            f"Received: {name}={shown(value)}. Use for example {name}=1.0."
        )


def within(name: str, value: Any, least: float, most: float, *, optional: bool = False) -> None:
    """Raises unless `value` is a finite number in [least, most] (or None where `optional`)."""
    if optional and value is None:
        return
    if not _is_number(value) or not least <= value <= most or math.isinf(value):
        rule = f"in [{least}, {most}]" if most < math.inf else f">= {least}"
        alternative = " or None" if optional else ""
        raise ValueError(
            f"`{name}` must be a finite number {rule}{alternative}. "
            f"Received: {name}={shown(value)}. Use for example {name}={least}."
        )


def boolean(name: str, value: Any) -> None:
    """Raises unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(
            f"`{name}` must be True or False. Received: {name}={shown(value)}. Pass one of the two."
        )


def one_of(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Raises unless `value` is one of `allowed` (True is not 1)."""
    if not any(type(value) is type(choice) and value == choice for choice in allowed):
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, allowed))}. "
            f"Received: {name}={shown(value)}. Pass one of these."
        )


def positive_values(name: str, values: Any) -> tuple[float, ...]:
    """Returns `values` as a tuple of floats; raises if it is empty or holds one that is not > 0."""
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) == 0:
        raise ValueError(
            f"`{name}` must be a non-empty list or tuple of numbers > 0. "
            f"Received: {name}={shown(values)}. Pass for example (1.0, 0.1, 0.01)."
        )
    for value in values:
        positive(f"{name}[...]", value)
    return tuple(float(value) for value in values)


def damping_value(value: Any) -> float:
    """Returns a fixed damping as a float; raises unless it is a finite number >= 0."""
    if not _is_number(value) or not 0 <= value < math.inf:
        raise ValueError(
            '`damping` must be "auto", "search", "adaptive", a finite number >= 0 or a list of '
            f"numbers > 0 to search. Received: damping={shown(value)}. Pass one of these."
        )
    return float(value)


def finite_loss(value: float) -> None:
    """Raises unless a loss is finite."""
    if not math.isfinite(value):
        raise ValueError(
            f"The loss must be finite. Received: {value}. Look for NaN in the data, or for "
            "parameters that have diverged."
        )


def learning_rate(value: Any) -> Any:
    """Returns a number as a float and anything else (schedules, callables) as it is."""
    if not _is_number(value):
        return value
    if not 0 <= value < math.inf:
        raise ValueError(
            "`learning_rate` must be a finite number >= 0, a schedule or a callable. "
            f"Received: learning_rate={shown(value)}. 1.0 takes the full step."
        )
    return float(value)


def shown(value: Any) -> str:
    """Returns what an error shows of a value: of arrays, tensors and variables no numbers."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None and shape != ():
        name = getattr(dtype, "name", dtype)
        return f"a {type(value).__name__} of shape {shape} and dtype {name}"
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
