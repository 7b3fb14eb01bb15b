r"""What one Lanczos iteration costs, in gradients of the same batch compiled the same way.

    python examples/benchmarks/cost/iteration_cost.py
    python examples/benchmarks/cost/iteration_cost.py --memory

The first times compiled loops of --krylov_dimension and of --short iterations in turn with the
gradient, on the deep autoencoder; an iteration is the difference of the two, so that what a loop
costs once does not count. Beside the loop of the optimizer stand one without reorthogonalisation
and one of bare products. Then it changes the number of parameters, the rows of the batch and the
dimension, one at a time. Written to --output_dir: iteration_cost.csv, iteration_cost.png.

The second takes the peak memory of a step from fresh processes: memory.csv.
"""

from __future__ import annotations

import functools
import itertools
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[2]))

import tensorflow as tf
from absl import app, flags
from matplotlib import pyplot as plt
from matplotlib import ticker

from benchmarks.common import deep_autoencoder, measure, newton_options
from benchmarks.cost import iteration_programs, peak_memory
from helpers import command_line, tables
from keras_sfn.optimizers import memory

_WIDTHS = flags.DEFINE_list(
    "widths", [str(width) for width in deep_autoencoder.WIDTHS], "Pixels, and widths to the code."
)
_ROWS = flags.DEFINE_integer("rows", 512, "Rows of the batch.", lower_bound=1)
_KRYLOV = flags.DEFINE_integer("krylov_dimension", 24, "Iterations of the long loop.")
_SHORT = flags.DEFINE_integer("short", 4, "Iterations of the short loop.", lower_bound=1)
_SWEEP_PARAMETERS = flags.DEFINE_list(
    "sweep_parameters", ["1e4", "1e5", "1e6", "1e7"], "Numbers of parameters to go to (about)."
)
_SWEEP_ROWS = flags.DEFINE_list("sweep_rows", ["64", "2048", "8192"], "Rows to go to.")
_SWEEP_KRYLOV = flags.DEFINE_list("sweep_krylov", ["8", "16", "50", "100"], "Dimensions to go to.")
_REPEATS = flags.DEFINE_integer("repeats", 9, "Timed calls of each; medians count.", lower_bound=1)
_JIT = flags.DEFINE_bool("jit_compile", True, "Whether XLA compiles loops and gradient.")
_MEMORY = flags.DEFINE_bool("memory", False, "Take the peak memory of a step instead.")
_MEMORY_PARAMETERS = flags.DEFINE_list(
    "memory_parameters", ["2837314", "1e7"], "Numbers of parameters for --memory (about)."
)
_MEMORY_KRYLOV = flags.DEFINE_list(
    "memory_krylov",
    ["auto", "4", "10", "24"],
    "Dimensions for --memory; auto for preconditioned directions.",
)
_MEMORY_ROWS = flags.DEFINE_integer("memory_rows", 8, "Rows for --memory.", lower_bound=1)
_NEWTON = flags.DEFINE_string("newton", "", "Other arguments of the optimizer, for --memory.")
_QUICK = flags.DEFINE_bool("quick", False, "A few parameters and repeats, for a try-out.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/iteration_cost", "Where results go.")

_QUICK_FLAGS = {
    "widths": ["12", "8", "4"],
    "rows": 16,
    "krylov_dimension": 4,
    "short": 2,
    "sweep_parameters": ["800"],
    "sweep_rows": ["8"],
    "sweep_krylov": ["6"],
    "repeats": 2,
    "memory_parameters": ["4e3"],
    "memory_krylov": ["auto", "3"],
}

# How a step's memory is estimated, to leave out what cannot fit: vectors of the length of the
# parameters besides the basis, and copies of all activations (values, tangents, both backwards).
_VECTORS, _ACTIVATIONS = 10, 8

# Iterations of the loops over vectors as long as a basis.
_PASSES = (2, 6)

_LOOPS = ("products", "without_reorthogonalization", "with_reorthogonalization")


class Case(NamedTuple):
    """What is measured together.

    Attributes:
        swept: What differs from the default case, or "default".
        widths: Of the autoencoder.
        rows: Of the batch.
        krylov_dimension: Iterations of the long loop.
    """

    swept: str
    widths: tuple[int, ...]
    rows: int
    krylov_dimension: int


class Cost(NamedTuple):
    """What an iteration cost in one case.

    Attributes:
        swept: See `Case`.
        parameters: Number n of parameters.
        rows: Of the batch.
        krylov_dimension: Iterations of the long loop.
        gradient_seconds: Median time of a gradient.
        gradient_in_loop: Gradients an iteration of a loop of gradients, each a step down: less than
            1 where the call of a compiled function itself, or the memory that it gets, takes time.
        products: Gradients an iteration of the loop of bare products, each normalised.
        without_reorthogonalization: Gradients an iteration of Lanczos's recurrence alone.
        with_reorthogonalization: Gradients an iteration as the optimizer runs it.
        passes: How often the time beyond the bare product would read or write n numbers.
        gigabytes_per_second: Of such passes over k vectors, measured in turn with the rest.
    """

    swept: str
    parameters: int
    rows: int
    krylov_dimension: int
    gradient_seconds: float
    gradient_in_loop: float
    products: float
    without_reorthogonalization: float
    with_reorthogonalization: float
    passes: float
    gigabytes_per_second: float


def cases() -> Iterator[Case]:
    """Yields the default case, and then one for each value of the sweeps that differs from it."""
    widths = tuple(command_line.positive_integers("widths", _WIDTHS.value, least=2))
    default = Case("default", widths, _ROWS.value, _KRYLOV.value)
    sizes = command_line.positive_integers("sweep_parameters", _SWEEP_PARAMETERS.value, least=0)
    rows = command_line.positive_integers("sweep_rows", _SWEEP_ROWS.value, least=0)
    dimensions = command_line.positive_integers("sweep_krylov", _SWEEP_KRYLOV.value, least=0)
    for flag, values in (("krylov_dimension", [_KRYLOV.value]), ("sweep_krylov", dimensions)):
        if any(value <= _SHORT.value for value in values):
            given = ",".join(str(value) for value in values)
            sys.exit(f"--{flag}={given} must be more than the --short={_SHORT.value} iterations.")
    yield default
    for size in sizes:
        yield default._replace(swept="parameters", widths=deep_autoencoder.scaled(widths, size))
    yield from (default._replace(swept="rows", rows=n) for n in rows if n != default.rows)
    for dimension in dimensions:
        if dimension != default.krylov_dimension:
            yield default._replace(swept="krylov_dimension", krylov_dimension=dimension)


def too_large(case: Case) -> str | None:
    """Says why a case is left out: its loops would take more than half of the memory."""
    units = sum(units for _, units in deep_autoencoder.layer_shapes(case.widths))
    vectors = (case.krylov_dimension + _VECTORS) * deep_autoencoder.parameters(case.widths)
    wanted = 4 * (vectors + _ACTIVATIONS * case.rows * units)
    available, device = memory.device_memory()
    if wanted <= available / 2:
        return None
    return f"about {wanted:.3g} bytes are more than half of the {device}'s {available:.3g}"


def cost_of(case: Case) -> Cost:
    """Times the functions of one case in turn."""
    programs = iteration_programs.Programs(case.widths, case.rows, _JIT.value)
    counts = (_SHORT.value, case.krylov_dimension)
    functions = {"gradient": programs.gradient()}
    for count in counts:
        functions[f"gradients {count}"] = programs.gradients(count)
        functions[f"products {count}"] = programs.products(count)
        functions[f"without_reorthogonalization {count}"] = programs.krylov(count, False)
        functions[f"with_reorthogonalization {count}"] = programs.krylov(count)
    for count in _PASSES:
        functions[f"vector_passes {count}"] = programs.vector_passes(count, case.krylov_dimension)
    calls = {
        # Concrete, as TensorFlow warns of many traces of functions that come from one line.
        name: functools.partial(
            _call, function.get_concrete_function(*programs.arguments), programs.arguments
        )
        for name, function in functions.items()
    }
    timings = measure.in_turn(calls, _REPEATS.value)

    def seconds_an_iteration(name: str, short: int, long: int) -> float:
        more = timings[f"{name} {long}"].median - timings[f"{name} {short}"].median
        return more / (long - short)

    gradient = timings["gradient"].median
    loops = {name: seconds_an_iteration(name, *counts) for name in _LOOPS}
    parameters = deep_autoencoder.parameters(case.widths)
    # Each vector is read and written.
    passes = 2 * case.krylov_dimension
    seconds_a_pass = seconds_an_iteration("vector_passes", *_PASSES) / passes
    return Cost(
        case.swept,
        parameters,
        case.rows,
        case.krylov_dimension,
        gradient,
        seconds_an_iteration("gradients", *counts) / gradient,
        **{name: seconds / gradient for name, seconds in loops.items()},
        passes=(loops["with_reorthogonalization"] - loops["products"]) / seconds_a_pass,
        gigabytes_per_second=4e-9 * parameters / seconds_a_pass,
    )


def _call(function: Callable[..., Any], arguments: Sequence[tf.Tensor]) -> None:
    """Calls a function and waits for the device, without a copy of what comes out."""
    function(*arguments)
    tf.test.experimental.sync_devices()


def plot(path: pathlib.Path, costs: Sequence[Cost], made_with: str) -> None:
    """Draws the costs against each quantity that was swept; alone where none was."""
    swept = list(dict.fromkeys(cost.swept for cost in costs if cost.swept != "default"))
    panels = swept or ["krylov_dimension"]
    unit = ticker.EngFormatter(sep="")
    figure, all_axes = plt.subplots(
        1, len(panels), figsize=(4 * len(panels), 4), layout="constrained", sharey=True
    )
    for axes, name in zip([all_axes] if len(panels) == 1 else all_axes, panels, strict=True):
        shown = sorted(
            (cost for cost in costs if cost.swept in (name, "default")),
            key=lambda cost: getattr(cost, name),
        )
        for loop in _LOOPS:
            axes.plot(
                [getattr(cost, name) for cost in shown],
                [getattr(cost, loop) for cost in shown],
                marker="o",
                label=loop.replace("_", " "),
            )
        axes.set(xscale="log", xlabel=name.replace("_", " "))
        values = sorted({getattr(cost, name) for cost in shown})
        axes.set_xticks(values, [unit(float(f"{value:.3g}")) for value in values])
        axes.minorticks_off()
        axes.axhline(2, color="grey", linewidth=0.5)
    first = all_axes if len(panels) == 1 else all_axes[0]
    first.set(ylabel="gradients an iteration", ylim=(0, None))
    first.legend(fontsize=7)
    measure.save_figure(path, figure, made_with)


def measure_memory(output: pathlib.Path, made_with: str) -> None:
    """Takes the peaks, prints and writes them."""
    widths = command_line.positive_integers("widths", _WIDTHS.value, least=2)
    sizes = command_line.positive_integers("memory_parameters", _MEMORY_PARAMETERS.value)
    dimensions = newton_options.krylov_dimensions("memory_krylov", _MEMORY_KRYLOV.value)
    peaks = []
    for size, dimension in itertools.product(sizes, dimensions):
        peaks.append(
            peak_memory.of_steps(
                deep_autoencoder.scaled(widths, size), _MEMORY_ROWS.value, dimension, _NEWTON.value
            )
        )
        print(peaks[-1], flush=True)
    print(tables.markdown(peak_memory.Peak._fields, peaks))
    tables.write_csv(output / "memory.csv", peak_memory.Peak._fields, peaks, made_with)
    print(f"Results in {output}/: memory.csv")


def main(argv: Sequence[str]) -> None:
    """Measures and writes the results."""
    command_line.refuse_arguments(argv)
    if _QUICK.value:
        command_line.set_flags(_QUICK_FLAGS)
    newton_options.optimizer("newton", _NEWTON.value)
    listed = list(cases())
    output = command_line.output_directory(_OUTPUT_DIR.value)
    made_with = measure.versions()
    if _MEMORY.value:
        measure_memory(output, made_with)
        return
    costs = []
    for case in listed:
        reason = too_large(case)
        if reason:
            print(f"Left out: {case}: {reason}.", flush=True)
            continue
        costs.append(cost_of(case))
        print(costs[-1], flush=True)
    if not costs:
        sys.exit("No case fits into memory. Take smaller --widths, --rows or --krylov_dimension.")
    print(tables.markdown(Cost._fields, costs))
    tables.write_csv(output / "iteration_cost.csv", Cost._fields, costs, made_with)
    plot(output / "iteration_cost.png", costs, made_with)
    print(f"Results in {output}/: iteration_cost.csv, iteration_cost.png")


if __name__ == "__main__":
    app.run(main)
