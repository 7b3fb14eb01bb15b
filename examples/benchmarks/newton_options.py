"""Arguments of `SaddleFreeNewton` written in one flag: krylov_dimension=5,damping="adaptive"."""

from __future__ import annotations

import ast
import sys
from typing import Any

import keras_sfn


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
        call = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not all(k.arg for k in call.keywords):
            raise ValueError("only names with values are arguments")
        options = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        return keras_sfn.SaddleFreeNewton(**(defaults | options))
    except (SyntaxError, TypeError, ValueError) as error:
        sys.exit(f"--{flag}={text} must be arguments such as krylov_dimension=5: {error}")
