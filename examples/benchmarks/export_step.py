r"""Exports a compiled step and its parts, to run and time them with JAX on another machine.

    python examples/benchmarks/export_step.py
    python examples/benchmarks/run_exported.py results/export    # where JAX is, without TensorFlow

Each program is the one that TensorFlow's XLA compiles, as StableHLO text. Written to --output_dir,
for each NAME: NAME.stablehlo; NAME.json, with the name of the file of its inputs, its outputs on
this machine, and the least work it can do; and these files. Arrays are called arg00, arg01, ... and
out00, out01, ... in the order in which the program lists them.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import deep_autoencoder
import iteration_programs
import measure
import newton_options
import numpy as np
import stablehlo_export
import step_work
import tensorflow as tf
from absl import app, flags

from keras_sfn import saddle_free

_PROGRAMS = ("step", "loss", "gradient", "product", "products", "lanczos", "eigh")

_PROGRAM = flags.DEFINE_multi_enum(
    "program",
    None,
    _PROGRAMS,
    "What to export, may be repeated; all of it unless given. step: one step of the optimizer on "
    "the model's variables. loss, gradient, product: one of each. products, lanczos: loops of so "
    "many iterations, without and with Lanczos's part. eigh: the eigenvalues of its matrix.",
)
_KRYLOV = flags.DEFINE_list(
    "krylov_dimension", ["4", "11", "24"], "Iterations of products and lanczos, rows of eigh."
)
_WIDTHS = flags.DEFINE_list(
    "widths", [str(width) for width in deep_autoencoder.WIDTHS], "Pixels, and widths to the code."
)
_ROWS = flags.DEFINE_integer("rows", 512, "Rows of the batch.", lower_bound=1)
_NEWTON = flags.DEFINE_string("newton", "", "Arguments of the optimizer, other than defaults.")
_QUICK = flags.DEFINE_bool("quick", False, "A few parameters, for a try-out.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/export", "Where results go.")

_QUICK_FLAGS = {"widths": ["12", "8", "4"], "rows": 16, "krylov_dimension": ["2", "4"]}


class Program(NamedTuple):
    """What is exported.

    Attributes:
        name: Of its files.
        kind: One of the programs.
        krylov_dimension: Iterations or rows; None where it has none.
        function: Compiled by XLA.
        arguments: To call it with.
        inputs: Stem of the file of its inputs; programs with the same inputs share one.
        work: The least it can do; None where that is next to nothing.
    """

    name: str
    kind: str
    krylov_dimension: int | None
    function: Any
    arguments: Sequence[tf.Tensor]
    inputs: str
    work: step_work.Work | None


def programs(
    kinds: Sequence[str], widths: Sequence[int], rows: int, dimensions: Sequence[int]
) -> Iterator[Program]:
    """Yields what is to be exported."""
    parts = iteration_programs.Programs(widths, rows)
    work = step_work.Parts(deep_autoencoder.layer_shapes(widths), rows)
    single: dict[str, tuple[Callable[[], Any], step_work.Work]] = {
        "loss": (parts.loss, work.loss()),
        "gradient": (parts.gradient, work.gradient()),
        "product": (parts.product, work.product()),
    }
    loops: dict[str, tuple[Callable[[int], Any], Callable[[int], step_work.Work]]] = {
        "products": (parts.products, work.products),
        "lanczos": (parts.krylov, work.lanczos),
    }
    for kind in kinds:
        if kind == "step":
            yield _step(widths, rows, work)
        elif kind in single:
            make, least = single[kind]
            yield Program(kind, kind, None, make(), parts.arguments, "inputs", least)
        for k in dimensions:
            name = f"{kind}_k{k}"
            if kind in loops:
                make_loop, least_of = loops[kind]
                loop = make_loop(k)
                yield Program(name, kind, k, loop, parts.arguments, "inputs", least_of(k))
            elif kind == "eigh":
                yield _eigh(name, k, parts)


def _step(widths: Sequence[int], rows: int, work: step_work.Parts) -> Program:
    """Returns a step of the optimizer in the middle of a training, as it stands on variables."""
    model = deep_autoencoder.build(widths)
    optimizer = newton_options.optimizer("newton", _NEWTON.value, jit_compile=True)
    optimizer.build(model.trainable_variables)

    def step(batch: tf.Tensor) -> tf.Tensor:
        def loss_fn() -> tf.Tensor:
            return tf.reduce_mean((model(batch, training=True) - batch) ** 2)

        return optimizer.minimize(loss_fn, model.trainable_variables)

    function = tf.function(step, autograph=False, jit_compile=True)
    arguments = (deep_autoencoder.batch(widths, rows),)
    # So that there are a previous step and a damping.
    for _ in range(2):
        function(*arguments)
    basis_rows = len(optimizer.last_step.ritz_values)
    least = work.step(basis_rows)
    return Program("step", "step", basis_rows, function, arguments, "step.inputs", least)


def _eigh(name: str, rows: int, parts: iteration_programs.Programs) -> Program:
    """Returns the eigenpairs of a projected matrix, as the matrix that they make again.

    Eigenvectors themselves have no sign by which machines could be compared.
    """

    def eigh(matrix: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pairs = saddle_free.ritz_pairs(matrix)
        scaled = pairs.vectors * pairs.values
        return pairs.values, tf.matmul(scaled, pairs.vectors, transpose_b=True)

    matrix, _ = parts.krylov(rows)(*parts.arguments)
    function = tf.function(eigh, autograph=False, jit_compile=True)
    return Program(name, "eigh", rows, function, (matrix,), f"{name}.inputs", None)


def write(output: pathlib.Path, program: Program, parameters: int, rows: int) -> None:
    """Exports one program and writes its files."""
    exported = stablehlo_export.export(program.function, program.arguments)
    (output / f"{program.name}.stablehlo").write_text(exported.text)
    inputs, outputs = f"{program.inputs}.npz", f"{program.name}.outputs.npz"
    _save(output / inputs, "arg", exported.inputs)
    _save(output / outputs, "out", exported.outputs)
    about = {
        "program": program.kind,
        "krylov_dimension": program.krylov_dimension,
        "parameters": parameters,
        "rows": rows,
        "inputs": inputs,
        "outputs": outputs,
        "flops": program.work.flops if program.work else None,
        "bytes": program.work.bytes if program.work else None,
        "made_with": measure.versions(),
    }
    (output / f"{program.name}.json").write_text(json.dumps(about, indent=1) + "\n")
    print(f"{program.name}: {len(exported.text)} characters, {len(exported.inputs)} inputs")


def _save(path: pathlib.Path, prefix: str, arrays: Sequence[np.ndarray]) -> None:
    named: dict[str, Any] = {f"{prefix}{i:02d}": array for i, array in enumerate(arrays)}
    np.savez(path, **named)


def main(argv: Sequence[str]) -> None:
    """Exports."""
    measure.refuse_arguments(argv)
    if _QUICK.value:
        measure.set_flags(_QUICK_FLAGS)
    widths = measure.positive_integers("widths", _WIDTHS.value, least=2)
    dimensions = measure.positive_integers("krylov_dimension", _KRYLOV.value)
    newton_options.optimizer("newton", _NEWTON.value)
    output = measure.output_directory(_OUTPUT_DIR.value)
    parameters = deep_autoencoder.parameters(widths)
    kinds = list(dict.fromkeys(_PROGRAM.value or _PROGRAMS))
    try:
        for program in programs(kinds, widths, _ROWS.value, dimensions):
            write(output, program, parameters, _ROWS.value)
    except NotImplementedError as error:
        sys.exit(str(error))
    print(f"Results in {output}/")


if __name__ == "__main__":
    app.run(main)
