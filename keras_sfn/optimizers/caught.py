"""Who is asked in place of an optimizer, while a train step of a user is run as a loss."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Protocol

import keras

_thread = threading.local()


class Catcher(Protocol):
    """What takes the place of optimizers."""

    def applied(
        self, optimizer: keras.optimizers.Optimizer, gradients: Any, variables: Any
    ) -> None:
        """Called in place of `optimizer.apply(gradients, variables)`."""

    def stepped(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Called in place of a step that an optimizer of this package takes on a loss."""


@contextlib.contextmanager
def by(catcher: Catcher) -> Iterator[None]:
    """Has the catcher asked in this thread, until the block ends."""
    before = in_force()
    _thread.catcher = catcher
    try:
        yield
    finally:
        _thread.catcher = before


def in_force() -> Catcher | None:
    """Returns the catcher that is asked in this thread, or None."""
    return getattr(_thread, "catcher", None)
