r"""Exports a compiled step and its parts, to run and time them with JAX on another machine.

    python examples/benchmarks/gpu/export_step.py
    python examples/benchmarks/gpu/run_exported.py results/export

The second runs where JAX is, without TensorFlow. Each program is the one that TensorFlow's XLA
compiles, as StableHLO text. Written to --output_dir, for each NAME: NAME.stablehlo; NAME.json, with
the name of the file of its inputs, its outputs on this machine, and the least work it can do; and
these files. Arrays are called arg00, arg01, ... and out00, out01, ... in the order in which the
program lists them; of long outputs every 17th number is kept.
"""

from __future__ import annotations

import functools
import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from unittest import mock

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[2]))

import numpy as np
import tensorflow as tf
from absl import app, flags

import keras_sfn
from benchmarks.common import deep_autoencoder, measure, newton_options
from benchmarks.cost import iteration_programs
from benchmarks.gpu import exported_report, stablehlo_export, step_work
from helpers import command_line
from keras_sfn.krylov import ritz
from keras_sfn.objective import rows as rows_lib
from keras_sfn.preconditioner import state as state_lib

_PROGRAMS = (
    *("default_step", "step", "renewal", "loss", "gradient", "product", "products", "lanczos"),
    *("eigh", "side"),
)

_PROGRAM = flags.DEFINE_multi_enum(
    "program",
    None,
    _PROGRAMS,
    "What to export, may be repeated; all of it unless given. default_step: one step of `fit` "
    "between two renewals of the preconditioner. step: one of `minimize`, in a Krylov space. "
    "renewal: all that one takes but eigenvectors. loss, gradient, product: one of each. products, "
    "lanczos: loops of so many iterations, without and with Lanczos's part. eigh: the eigenvalues "
    "of its matrix. side: those of a matrix of the preconditioner.",
)
_KRYLOV = flags.DEFINE_list(
    "krylov_dimension", ["4", "11", "24"], "Iterations of products and lanczos, rows of eigh."
)
_SIDES = flags.DEFINE_list("sides", ["250", "500", "1000"], "Rows of the matrices of side.")
_WIDTHS = flags.DEFINE_list(
    "widths", [str(width) for width in deep_autoencoder.WIDTHS], "Pixels, and widths to the code."
)
_ROWS = flags.DEFINE_integer("rows", 512, "Rows of the batch.", lower_bound=1)
_NEWTON = flags.DEFINE_string("newton", "", "Arguments of step's optimizer, but for defaults.")
_QUICK = flags.DEFINE_bool("quick", False, "A few parameters, for a try-out.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/export", "Where results go.")

# Each has renewed the preconditioner; the next one would not.
_STEPS = 3

_QUICK_FLAGS = {
    "widths": ["12", "8", "4"],
    "rows": 16,
    "krylov_dimension": ["2", "4"],
    "sides": ["8"],
}


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
    kinds: Sequence[str],
    widths: Sequence[int],
    rows: int,
    dimensions: Sequence[int],
    sides: Sequence[int],
) -> Iterator[Program]:
    """Yields what is to be exported."""
    parts = iteration_programs.Programs(widths, rows)
    work = _work(widths, rows)
    single: dict[str, tuple[Callable[[], Any], step_work.Work]] = {
        "renewal": _renewal(widths, rows, parts),
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
        elif kind == "default_step":
            yield _default_step(widths, rows)
        elif kind == "side":
            for side in sides:
                yield _eigh(f"side_{side}", kind, _moments(side))
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
                yield _eigh(name, kind, parts.krylov(k)(*parts.arguments)[0])


def _step(widths: Sequence[int], rows: int, work: step_work.Parts) -> Program:
    """Returns a step of the optimizer in the middle of a training, as it stands on variables."""
    model = deep_autoencoder.build(widths)
    # XLA takes long for the eigenvectors of a preconditioner.
    krylov = {"krylov_dimension": 10, "jit_compile": True}
    optimizer = newton_options.optimizer("newton", _NEWTON.value, **krylov)
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


def _default_step(widths: Sequence[int], rows: int) -> Program:
    """Returns a train step of a stock model, as XLA compiles it inside `fit`.

    Not of the renewals, whose eigenvectors are TensorFlow's own matter.
    """
    model = deep_autoencoder.build(widths)
    model.compile(keras_sfn.SaddleFreeNewton(jit_compile=True), "mse")
    images = deep_autoencoder.batch(widths, rows)
    model.fit(images, images, batch_size=rows, epochs=_STEPS, shuffle=False, verbose=0)
    model.reset_metrics()

    def step(batch: tf.Tensor) -> tf.Tensor:
        return model.train_step((batch, batch))["loss"]

    def as_it_stands(
        state: state_lib.PreconditionerState, _: Any, step: tf.Tensor, seed: int
    ) -> state_lib.Factors:
        del seed
        # Never, but nothing that XLA can know.
        return state.factors()._replace(renewed=step < 0)

    function = tf.function(step, autograph=False, jit_compile=True)
    with mock.patch.object(state_lib.PreconditionerState, "renew", as_it_stands):
        function.get_concrete_function(images)
    basis_rows = len(model.optimizer.last_step.ritz_values)
    batch, curvature = _work(widths, rows), _work(widths, _curvature_rows(rows))
    least = step_work.default_step(basis_rows, batch, curvature)
    arguments, inputs = (images,), "default_step.inputs"
    return Program("default_step", "default_step", basis_rows, function, arguments, inputs, least)


def _renewal(
    widths: Sequence[int], rows: int, parts: iteration_programs.Programs
) -> tuple[Callable[[], Any], step_work.Work]:
    """Returns what makes a renewal, and the least it can do."""
    samples, probes = state_lib.SAMPLES, state_lib.PROBES
    part = int(rows_lib.of_part(0, samples, tf.constant(rows))[1])
    curvature = _curvature_rows(rows)
    work = step_work.renewal(samples, _work(widths, part), probes, _work(widths, curvature))
    return functools.partial(parts.renewal, samples, part, probes, curvature), work


def _curvature_rows(rows: int) -> int:
    return rows // rows_lib.number_of_parts(rows)


def _work(widths: Sequence[int], rows: int) -> step_work.Parts:
    return step_work.Parts(deep_autoencoder.layer_shapes(widths), rows)


def _moments(side: int) -> tf.Tensor:
    """Returns a matrix like those that a renewal takes the eigenvectors of, shape (side, side)."""
    samples = tf.random.stateless_normal((state_lib.SAMPLES, side, side // 2 + 1), (2, 2))
    return tf.reduce_mean(tf.matmul(samples, samples, transpose_b=True), axis=0)


def _eigh(name: str, kind: str, matrix: tf.Tensor) -> Program:
    """Returns the eigenpairs of a symmetric matrix, as the matrix that they make again.

    Eigenvectors themselves have no sign by which machines could be compared.
    """

    def eigh(matrix: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pairs = ritz.ritz_pairs(matrix)
        scaled = pairs.vectors * pairs.values
        return pairs.values, tf.matmul(scaled, pairs.vectors, transpose_b=True)

    function = tf.function(eigh, autograph=False, jit_compile=True)
    rows = int(matrix.shape[0])
    return Program(name, kind, rows, function, (matrix,), f"{name}.inputs", None)


def write(output: pathlib.Path, program: Program, parameters: int, rows: int) -> None:
    """Exports one program and writes its files."""
    exported = stablehlo_export.export(program.function, program.arguments)
    (output / f"{program.name}.stablehlo").write_text(exported.text)
    inputs, outputs = f"{program.inputs}.npz", f"{program.name}.outputs.npz"
    _save(output / inputs, "arg", exported.inputs)
    _save(output / outputs, "out", list(map(exported_report.thinned, exported.outputs)))
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
    np.savez_compressed(path, **named)


def main(argv: Sequence[str]) -> None:
    """Exports."""
    command_line.refuse_arguments(argv)
    if _QUICK.value:
        command_line.set_flags(_QUICK_FLAGS)
    widths = command_line.positive_integers("widths", _WIDTHS.value, least=2)
    dimensions = command_line.positive_integers("krylov_dimension", _KRYLOV.value)
    sides = command_line.positive_integers("sides", _SIDES.value)
    newton_options.optimizer("newton", _NEWTON.value)
    output = command_line.output_directory(_OUTPUT_DIR.value)
    parameters = deep_autoencoder.parameters(widths)
    kinds = list(dict.fromkeys(_PROGRAM.value or _PROGRAMS))
    try:
        for program in programs(kinds, widths, _ROWS.value, dimensions, sides):
            write(output, program, parameters, _ROWS.value)
    except NotImplementedError as error:
        sys.exit(str(error))
    print(f"Results in {output}/")


if __name__ == "__main__":
    app.run(main)
