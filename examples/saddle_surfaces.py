r"""Trajectories near saddle points: gradient descent, Newton's method, saddle-free Newton.

    python examples/saddle_surfaces.py

On 5 x^2 - y^2, and on the monkey saddle x^3 - 3 x y^2, whose Hessian vanishes at the saddle.
Newton's method runs into the saddle, gradient descent lingers, saddle-free Newton leaves: the first
figure of Dauphin et al. 2014. Written to --output_dir: trajectories.png, trajectories.csv.

The surfaces fall without bound, so every method takes small steps of fixed damping, and a
trajectory ends where it leaves the picture.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import keras
import matplotlib
import numpy as np
import tensorflow as tf
from absl import app, flags

import keras_sfn
from helpers import command_line, tables

matplotlib.use("Agg")
from matplotlib import pyplot as plt

_STEPS = flags.DEFINE_integer("steps", 100, "Most steps of a trajectory.", lower_bound=1)
_NEWTON_RATE = flags.DEFINE_float(
    "newton_learning_rate", 0.1, "Factor on the steps of both Newton methods.", lower_bound=1e-6
)
_GRADIENT_RATE = flags.DEFINE_float(
    "sgd_learning_rate", 0.01, "Learning rate of gradient descent.", lower_bound=1e-6
)
_DAMPING = flags.DEFINE_float(
    "damping", 1e-6, "Of both Newton methods, in units of curvature.", lower_bound=0
)
_QUICK = flags.DEFINE_bool("quick", False, "Ten steps, for a try-out.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/saddle_surfaces", "Where results go.")

# Name -> the function of (x, y), where trajectories start, and half the width of the picture.
SURFACES: dict[str, tuple[Callable[..., tf.Tensor], tuple[float, float], float]] = {
    "5 x^2 - y^2": (lambda x, y: 5 * x**2 - y**2, (0.8, 0.05), 1.0),
    "monkey saddle": (lambda x, y: x**3 - 3 * x * y**2, (0.8, 0.05), 1.0),
}


def make_optimizers() -> dict[str, keras.optimizers.Optimizer]:
    """Returns the three methods by the names in the picture."""
    rate, damping = _NEWTON_RATE.value, _DAMPING.value
    newton = keras_sfn.DampedNewton(rate, krylov_dimension=None, damping=damping)
    return {
        "gradient descent": keras.optimizers.SGD(_GRADIENT_RATE.value),
        "Newton": newton,
        "saddle-free Newton": keras_sfn.ExactSaddleFreeNewton(rate, damping=damping),
    }


def trajectory(
    optimizer: keras.optimizers.Optimizer,
    surface: Callable[..., tf.Tensor],
    start: tuple[float, float],
    steps: int,
    reach: float,
) -> np.ndarray:
    """Returns the points visited, shape (points, 2), until one lies beyond `reach`."""
    point = keras.Variable(start, dtype="float64")
    points = [point.numpy()]

    def loss_fn() -> tf.Tensor:
        return surface(point[0], point[1])

    @tf.function(autograph=False)
    def take_step() -> None:
        if isinstance(optimizer, keras.optimizers.SGD):
            with tf.GradientTape() as tape:
                loss = loss_fn()
            optimizer.apply([tape.gradient(loss, point.value)], [point])
        else:
            optimizer.minimize(loss_fn, [point])

    while len(points) <= steps and np.abs(points[-1]).max() <= reach:
        take_step()
        points.append(point.numpy())
    return np.array(points)


def draw(results: dict[str, dict[str, np.ndarray]], path: pathlib.Path) -> None:
    """Draws one panel a surface, with its contours and trajectories."""
    figure, panels = plt.subplots(1, len(results), figsize=(6 * len(results), 5.5))
    for panel, (name, trajectories) in zip(np.atleast_1d(panels), results.items(), strict=True):
        surface, _, reach = SURFACES[name]
        axis = np.linspace(-reach, reach, 201)
        panel.contour(axis, axis, surface(*np.meshgrid(axis, axis)), 30, cmap="Greys", alpha=0.5)
        for method, points in trajectories.items():
            panel.plot(points[:, 0], points[:, 1], "o-", markersize=3, label=method)
        panel.plot(0, 0, "k+", markersize=12)
        panel.set(title=name, xlabel="x", ylabel="y", xlim=(-reach, reach), ylim=(-reach, reach))
        panel.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv: list[str]) -> None:
    """Computes, draws and writes every trajectory."""
    command_line.refuse_arguments(argv)
    steps = min(_STEPS.value, 10) if _QUICK.value else _STEPS.value
    output = command_line.output_directory(_OUTPUT_DIR.value)
    results: dict[str, dict[str, np.ndarray]] = {}
    for name, (surface, start, reach) in SURFACES.items():
        results[name] = {}
        for method, optimizer in make_optimizers().items():
            points = trajectory(optimizer, surface, start, steps, reach)
            results[name][method] = points
            value = float(surface(*points[-1]))
            print(
                f"{name}: {method} after {len(points) - 1} steps at {points[-1]}, f = {value:.3g}"
            )
    tables.write_csv(
        output / "trajectories.csv",
        ["surface", "method", "step", "x", "y"],
        (
            [name, method, step, *point]
            for name, trajectories in results.items()
            for method, points in trajectories.items()
            for step, point in enumerate(points)
        ),
    )
    draw(results, output / "trajectories.png")
    print(f"written to {output}")


if __name__ == "__main__":
    app.run(main)
