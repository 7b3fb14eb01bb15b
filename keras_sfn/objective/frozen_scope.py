"""The scope of one evaluation: which tensors stand for variables, and what was assigned."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

_thread = threading.local()


def in_force() -> FrozenScope | None:
    """Returns the scope of the evaluation that runs in this thread, or None."""
    return getattr(_thread, "scope", None)


@contextlib.contextmanager
def put_in_force(scope: FrozenScope) -> Iterator[None]:
    """Has `in_force` return a scope in this thread, until the block ends."""
    before = in_force()
    _thread.scope = scope
    try:
        yield
    finally:
        _thread.scope = before


class FrozenScope(keras.StatelessScope):
    """A stateless scope that records which variables were read and what was assigned.

    Args:
        mapping: Pairs of a trained variable and the tensor that stands for it.
        seed: As of `objective.Objective`.
    """

    def __init__(self, mapping: Any, seed: tf.Tensor | None) -> None:
        super().__init__(state_mapping=mapping, collect_losses=True)
        self._arguments = frozenset(self.state_mapping)
        self._seed = seed
        self._seeded: dict[int, tf.Tensor] = {}
        self.read: set[int] = set()
        self.generators: list[keras.Variable] = []
        self.updates: dict[int, tuple[keras.Variable, tf.Tensor]] = {}

    def get_current_value(self, variable: keras.Variable) -> tf.Tensor | None:
        """Returns what stands for a variable that is read; as `keras.StatelessScope`."""
        if id(variable) in self._arguments:
            self.read.add(id(variable))
        elif is_seed(variable) and all(variable is not known for known in self.generators):
            self.generators.append(variable)
            if self._seed is not None:
                index = tf.constant([len(self.generators) - 1, 0], self._seed.dtype)
                value = tf.cast(self._seed + index, variable.value.dtype)
                self._seeded[id(variable)] = value
                self.state_mapping[id(variable)] = value
        return super().get_current_value(variable)

    def add_update(self, update: tuple[keras.Variable, tf.Tensor]) -> None:
        """Takes note of an assignment; as `keras.StatelessScope`."""
        super().add_update(update)
        variable, _ = update
        if id(variable) not in self._arguments:
            self.updates[id(variable)] = update

    def held(self, variable: keras.Variable) -> tf.Tensor | None:
        """Returns the tensor that stands for a variable, without a read; None where there is none.

        Args:
            variable: Any.
        """
        return self.state_mapping.get(id(variable))

    def hold(self, variable: keras.Variable, value: tf.Tensor) -> None:
        """Has a tensor stand for a variable from now on, in place of what was assigned to it.

        Args:
            variable: Any.
            value: Of its shape.
        """
        self.state_mapping[id(variable)] = value
        self.updates.pop(id(variable), None)

    def forget_updates(self) -> None:
        """Has this evaluation assign to nothing."""
        self.updates.clear()

    def all_updates(self) -> list[tuple[keras.Variable, tf.Tensor]]:
        """Returns pairs of a variable and its value after the pass."""
        return [
            (variable, value)
            if key not in self._seeded
            # Read outside the scope: what the generator held before the pass.
            else (variable, variable.value + tf.cast(value - self._seeded[key], value.dtype))
            for key, (variable, value) in self.updates.items()
        ]


def is_seed(variable: keras.Variable) -> bool:
    """Whether a variable is the state of a `keras.random.SeedGenerator`."""
    # The name that `keras.random.SeedGenerator` gives; nothing public tells its state apart.
    return variable.name == "seed_generator_state" and tuple(variable.shape) == (2,)
