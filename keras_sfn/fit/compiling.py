"""Says what takes long where a call traces and compiles, so that nobody thinks that it hangs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence

from absl import logging

from keras_sfn.optimizers import newton_optimizer

# Seconds after which a line of the log says what is going on.
_PATIENCE = 3.0


class Watch:
    """Knows which calls of a train function compile.

    Args:
        optimizers: Those whose steps it takes.
    """

    def __init__(self, optimizers: Sequence[newton_optimizer.NewtonOptimizer]) -> None:
        self._optimizers = list(optimizers)
        self._called = False

    @contextlib.contextmanager
    def call(self, steps: int) -> Iterator[None]:
        """Is held during a call; logs a line where the call compiles and takes long.

        Args:
            steps: That the call takes.
        """
        message = self._message(steps)
        if message is None:
            yield
            return
        timer = threading.Timer(_PATIENCE, logging.warning, (message,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _message(self, steps: int) -> str | None:
        if not self._called:
            self._called = True
            names = ", ".join(optimizer.name for optimizer in self._optimizers)
            return f"{names}: the first step is traced and compiled, once for a shape of batches."
        names = ", ".join(one.name for one in self._optimizers if one.compiles_within(steps))
        if not names:
            return None
        return (
            f"{names}: XLA compiles the step, which makes later ones faster. "
            "jit_compile=False leaves that out, jit_compile=True does it in the first step."
        )
