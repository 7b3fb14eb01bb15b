"""Arguments of `SaddleFreeNewton` written in one flag: krylov_dimension=5,damping="adaptive"."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from typing import Any

import keras_sfn
from helpers import command_line

# What the optimizer decides by itself.
_AUTO = "auto"


def read(text: str) -> dict[str, Any]:
    """Reads `name=value,...` with Python literals for values.

    Raises:
        ValueError: It is something else.
    """
    try:
        call = ast.parse(f"settings({text})", mode="eval").body
    except SyntaxError as error:
        raise ValueError(str(error)) from None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise ValueError("not one list of arguments")
    if call.args or not all(keyword.arg for keyword in call.keywords):
        raise ValueError("only names with values are arguments")
    return {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}


def krylov_dimensions(flag: str, values: Sequence[str]) -> list[int | str]:
    """Returns the dimensions that a list flag holds: numbers, or `"auto"`.

    Raises:
        SystemExit: One is neither, or there is none; in one line.
    """
    numbers = [value for value in values if value != _AUTO]
    integers = iter(command_line.positive_integers(flag, numbers, least=int(_AUTO not in values)))
    return [_AUTO if value == _AUTO else next(integers) for value in values]


def optimizer(flag: str, text: str, **defaults: Any) -> keras_sfn.SaddleFreeNewton:
    """Returns the optimizer with the arguments that a flag holds.

    Args:
        flag: The flag's name, for the message.
        text: Its value: arguments as in a call in Python, with literal values.
        **defaults: Arguments that `text` need not hold.

    Raises:
        SystemExit: The text is none, or the optimizer does not take it; in one line.
    """
    try:
        return keras_sfn.SaddleFreeNewton(**(defaults | read(text)))
    except (TypeError, ValueError) as error:
        sys.exit(f"--{flag}={text} must be arguments such as krylov_dimension=5: {error}")
