r"""Compiles, checks and times what `export_step.py` wrote, with JAX and without TensorFlow.

    python run_exported.py FOLDER

Needs jax and numpy, and of the project this file and `exported_report.py` beside it. Prints the
device, and for each program the seconds of its compilation, the median milliseconds of a call,
beside the least they could be at rates measured in the same run, and how far each output is from
TensorFlow's on a CPU. Writes run.csv into the folder. Exits with 1 where an output differs by more
than --tolerance.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import exported_report
import jax
import jax.extend.backend
import jax.numpy as jnp
import numpy as np
from jax.interpreters import mlir
from jaxlib import xla_client
from jaxlib.mlir import ir

# Name -> a function that returns arrays.
Calls: TypeAlias = dict[str, Callable[[], Any]]


def compile_program(text: str, device: jax.Device) -> Any:
    """Returns an executable for one device."""
    # JAX has no public way to run a program that it has not traced: this is what `jit` does last.
    with mlir.make_ir_context():
        module = str(ir.Module.parse(text))
    options = jax.extend.backend.get_compile_options(num_replicas=1, num_partitions=1)
    devices = xla_client.DeviceList((device,))
    return device.client.compile_and_load(module, devices, options)


def median_seconds(calls: Calls, repeats: int, inner: int = 1) -> dict[str, float]:
    """Returns the median time of each call, timed in turn after two calls that do not count.

    Args:
        calls: What to time.
        repeats: Timings of each.
        inner: Calls that are waited for together.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats + 2):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(inner):
                result = call()
            jax.block_until_ready(result)
            if repeat > 1:
                seconds[name].append((time.perf_counter() - start) / inner)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def rates(arguments: argparse.Namespace, device: jax.Device) -> exported_report.Rates:
    """Measures the device's rates: a product of matrices, a pass over a long vector."""
    size, length = arguments.rate_size, arguments.rate_length
    matrix = jax.device_put(np.ones((size, size), np.float32), device)
    vector = jax.device_put(np.ones(length, np.float32), device)
    multiply = jax.jit(jnp.matmul)
    add = jax.jit(lambda x: x + 1)
    calls = {"product": lambda: multiply(matrix, matrix), "pass": lambda: add(vector)}
    # Many are started before one waits, so that the start of a call does not count.
    seconds = median_seconds(calls, arguments.repeat, inner=10)
    return exported_report.Rates(
        1e12 * arguments.teraflops if arguments.teraflops else 2 * size**3 / seconds["product"],
        1e9 * arguments.gigabytes if arguments.gigabytes else 8 * length / seconds["pass"],
    )


def eigh_on_the_host(matrix: jax.Array, device: jax.Device) -> list[jax.Array]:
    """Does outside of a program what it could: copies a matrix, solves it, copies back."""
    values, vectors = np.linalg.eigh(np.asarray(matrix))
    return [jax.device_put(values, device), jax.device_put(vectors, device)]


def parse() -> argparse.Namespace:
    """Returns the arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="what export_step.py wrote")
    parser.add_argument("--repeat", type=int, default=20, help="timed calls of each program")
    parser.add_argument("--tolerance", type=float, default=1e-2, help="of relative differences")
    parser.add_argument("--rate_size", type=int, default=8192, help="of the measured product")
    parser.add_argument("--rate_length", type=int, default=2**28, help="of the measured pass")
    parser.add_argument("--teraflops", type=float, help="a second, instead of the measured rate")
    parser.add_argument("--gigabytes", type=float, help="a second, instead of the measured rate")
    arguments = parser.parse_args()
    for name in ("repeat", "rate_size", "rate_length"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} must be at least 1. Received: {getattr(arguments, name)}.")
    if not list(arguments.folder.glob("*.json")):
        parser.error(f"{arguments.folder} holds no *.json. Export into it with export_step.py.")
    return arguments


def main() -> None:
    """Runs all programs of a folder."""
    arguments = parse()
    # Counts of steps have 64 bits.
    jax.config.update("jax_enable_x64", True)
    device = jax.devices()[0]
    print(f"jax {jax.__version__} on {device.device_kind}", flush=True)
    compile_seconds, calls, on_host = load(arguments.folder, device)
    differences = {name: check(arguments.folder, name, call()) for name, call in calls.items()}
    seconds = median_seconds(calls | on_host, arguments.repeat)
    device_rates = rates(arguments, device)
    print(f"{device_rates.flops / 1e12:.4g} teraflops, {device_rates.bytes / 1e9:.4g} GB a second")
    runs = {
        name: exported_report.Run(
            about(arguments.folder, name), compile_seconds[name], seconds[name], differences[name]
        )
        for name in calls
    }
    table = exported_report.rows(runs, device_rates)
    table += [
        exported_report.Row(name, None, 1e3 * seconds[name], None, None, None) for name in on_host
    ]
    report(arguments.folder, table, f"jax {jax.__version__}, {device.device_kind}")
    wrong = [name for name, value in differences.items() if not value <= arguments.tolerance]
    if wrong:
        sys.exit(f"Outputs differ by more than --tolerance={arguments.tolerance}: {wrong}")


def about(folder: pathlib.Path, name: str) -> dict[str, Any]:
    """Returns what the export says of a program."""
    return json.loads((folder / f"{name}.json").read_text())


def load(folder: pathlib.Path, device: jax.Device) -> tuple[dict[str, float], Calls, Calls]:
    """Compiles all programs.

    Returns:
        The seconds that each took, the programs with their inputs, and what may stand in for some
        of them outside of a program.
    """

    @functools.cache
    def inputs(name: str) -> list[jax.Array]:
        with np.load(folder / name) as saved:
            return [jax.device_put(saved[key], device) for key in sorted(saved.files)]

    seconds: dict[str, float] = {}
    calls: Calls = {}
    on_host: Calls = {}
    for name in sorted(path.stem for path in folder.glob("*.json")):
        of_program = about(folder, name)
        arguments = inputs(of_program["inputs"])
        start = time.perf_counter()
        program = compile_program((folder / f"{name}.stablehlo").read_text(), device)
        seconds[name] = time.perf_counter() - start
        print(f"{name}: compiled in {seconds[name]:.2f} s", flush=True)
        calls[name] = functools.partial(program.execute, arguments)
        if of_program["program"] == "eigh":
            call = functools.partial(eigh_on_the_host, arguments[0], device)
            on_host[f"{name}, on the host"] = call
    return seconds, calls, on_host


def check(folder: pathlib.Path, name: str, outputs: list[jax.Array]) -> float:
    """Prints how far each output is from TensorFlow's; returns the largest difference."""
    differences = []
    with np.load(folder / f"{name}.outputs.npz") as expected:
        for key, output in zip(sorted(expected.files), outputs, strict=True):
            differences.append(exported_report.difference(expected[key], output))
            print(f"{name} {key} {output.shape}: relative difference {differences[-1]:.2e}")
    return max(differences)


def report(folder: pathlib.Path, table: list[exported_report.Row], made_with: str) -> None:
    """Prints the table and writes it."""
    print(exported_report.text(exported_report.Row._fields, table))
    with (folder / "run.csv").open("w", newline="") as file:
        file.write(f"# {made_with}\n")
        writer = csv.writer(file)
        writer.writerow(exported_report.Row._fields)
        writer.writerows(table)


if __name__ == "__main__":
    main()
