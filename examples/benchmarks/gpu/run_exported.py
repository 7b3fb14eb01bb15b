r"""Compiles, checks and times what `export_step.py` wrote, with JAX and without TensorFlow.

    python examples/benchmarks/gpu/run_exported.py FOLDER

Needs jax and numpy, and of the project the folder `examples` alone. Prints the device, and for each
program the seconds of its compilation, the median milliseconds of a call, beside the least they
could be at rates measured in the same run, and how far each output is from TensorFlow's on a CPU;
on a GPU also how many kernels it ran and for how long. Writes run.csv into the folder, and
kernels.csv where there are any. Exits with 1 where an output differs by more than --tolerance.
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, TypeAlias

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[2]))

import jax
import jax.extend.backend
import jax.numpy as jnp
import jax.profiler
import numpy as np
from jax.interpreters import mlir
from jaxlib import xla_client
from jaxlib.mlir import ir

from benchmarks.gpu import exported_profile, exported_report
from helpers import tables

# Seconds of a call.
_MOST_PROFILED = 0.5

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


def median_seconds(
    calls: Calls, repeats: int, inner: int = 1, most_seconds: float = np.inf
) -> dict[str, float]:
    """Returns the median time of each call, timed in turn after two calls that do not count.

    Args:
        calls: What to time.
        repeats: Timings of each.
        inner: Calls that are waited for together.
        most_seconds: A call that has taken as long in all has fewer timings, at least one.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 2):
        for name, call in calls.items():
            if sum(seconds[name]) > most_seconds:
                continue
            start = time.perf_counter()
            for _ in range(inner):
                result = call()
            jax.block_until_ready(result)
            seconds[name].append((time.perf_counter() - start) / inner)
    return {
        name: float(np.median(values[2:] if len(values) > 2 else values[-1:]))
        for name, values in seconds.items()
    }


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


def profile(name: str, call: Callable[[], Any], calls: int = 3) -> list[exported_profile.Kernel]:
    """Returns what a program that was called before runs on a GPU."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(calls):
                jax.block_until_ready(call())
        [path] = pathlib.Path(folder).rglob("*.xplane.pb")
        planes = jax.profiler.ProfileData.from_file(str(path)).planes
    return exported_profile.kernels(name, planes, calls)


def eigh_on_the_host(matrix: jax.Array, device: jax.Device) -> list[jax.Array]:
    """Does outside of a program what it could: copies a matrix, solves it, copies back."""
    values, vectors = np.linalg.eigh(np.asarray(matrix))
    return [jax.device_put(values, device), jax.device_put(vectors, device)]


def parse() -> argparse.Namespace:
    """Returns the arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="what export_step.py wrote")
    parser.add_argument("--program", action="append", help="a NAME, may be repeated; else all")
    parser.add_argument("--repeat", type=int, default=20, help="timed calls of each program")
    parser.add_argument(
        "--full_float32", action="store_true", help="as TensorFlow with TensorFloat-32 turned off"
    )
    parser.add_argument("--most_seconds", type=float, default=5.0, help="of one's timed calls")
    parser.add_argument("--tolerance", type=float, default=1e-2, help="of relative differences")
    parser.add_argument("--rate_size", type=int, default=8192, help="of the measured product")
    parser.add_argument("--rate_length", type=int, default=2**28, help="of the measured pass")
    parser.add_argument("--teraflops", type=float, help="a second, instead of the measured rate")
    parser.add_argument("--gigabytes", type=float, help="a second, instead of the measured rate")
    arguments = parser.parse_args()
    for name in ("repeat", "rate_size", "rate_length"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} must be at least 1. Received: {getattr(arguments, name)}.")
    found = sorted(path.stem for path in arguments.folder.glob("*.json"))
    if not found:
        parser.error(f"{arguments.folder} holds no *.json. Export into it with export_step.py.")
    for name in arguments.program or ():
        if name not in found:
            parser.error(f"--program must be of {found}. Received: {name}.")
    arguments.program = arguments.program or found
    return arguments


def main() -> None:
    """Runs all programs of a folder."""
    arguments = parse()
    # Counts of steps have 64 bits.
    jax.config.update("jax_enable_x64", True)
    device = jax.devices()[0]
    print(f"jax {jax.__version__} on {device.device_kind}", flush=True)
    compile_seconds, calls, instead = load(arguments, device)
    differences = {name: check(arguments.folder, name, call()) for name, call in calls.items()}
    seconds = median_seconds(calls | instead, arguments.repeat, most_seconds=arguments.most_seconds)
    for name, median in seconds.items():
        print(f"{name}: {1e3 * median:.4g} ms", flush=True)
    kernels = {
        # A profile of tens of thousands of kernels takes minutes.
        name: profile(name, call) if seconds[name] < _MOST_PROFILED else []
        for name, call in calls.items()
    }
    device_rates = rates(arguments, device)
    print(f"{device_rates.flops / 1e12:.4g} teraflops, {device_rates.bytes / 1e9:.4g} GB a second")
    runs = {
        name: exported_report.Run(
            about(arguments.folder, name),
            compile_seconds[name],
            seconds[name],
            differences[name],
            exported_profile.total(kernels[name]),
        )
        for name in calls
    }
    table = exported_report.rows(runs, device_rates)
    table += [
        exported_report.Row(name, None, 1e3 * seconds[name], None, None, None) for name in instead
    ]
    made_with = f"jax {jax.__version__}, {device.device_kind}"
    print(tables.markdown(exported_report.Row._fields, table))
    tables.write_csv(arguments.folder / "run.csv", exported_report.Row._fields, table, made_with)
    ran = [kernel for found in kernels.values() for kernel in found]
    if ran:
        tables.write_csv(
            arguments.folder / "kernels.csv", exported_profile.Kernel._fields, ran, made_with
        )
    wrong = [name for name, value in differences.items() if not value <= arguments.tolerance]
    if wrong:
        sys.exit(f"Outputs differ by more than --tolerance={arguments.tolerance}: {wrong}")


def about(folder: pathlib.Path, name: str) -> dict[str, Any]:
    """Returns what the export says of a program."""
    return json.loads((folder / f"{name}.json").read_text())


def load(
    arguments: argparse.Namespace, device: jax.Device
) -> tuple[dict[str, float], Calls, Calls]:
    """Compiles programs.

    Returns:
        The seconds that each took, the programs with their inputs, and what may stand in for some
        of them outside of a program.
    """
    folder = arguments.folder

    @functools.cache
    def inputs(name: str) -> list[jax.Array]:
        with np.load(folder / name) as saved:
            return [jax.device_put(saved[key], device) for key in sorted(saved.files)]

    seconds: dict[str, float] = {}
    calls: Calls = {}
    instead: Calls = {}
    # What TensorFlow calls outside of its XLA: the device's library.
    solve = jax.jit(jnp.linalg.eigh)
    for name in arguments.program:
        of_program = about(folder, name)
        values = inputs(of_program["inputs"])
        text = (folder / f"{name}.stablehlo").read_text()
        if arguments.full_float32:
            text = text.replace("[DEFAULT, DEFAULT]", "[HIGHEST, HIGHEST]")
        start = time.perf_counter()
        program = compile_program(text, device)
        seconds[name] = time.perf_counter() - start
        print(f"{name}: compiled in {seconds[name]:.2f} s", flush=True)
        calls[name] = functools.partial(program.execute, values)
        if of_program["program"] in ("eigh", "side"):
            call = functools.partial(eigh_on_the_host, values[0], device)
            instead[f"{name}, on the host"] = call
            instead[f"{name}, by the library"] = functools.partial(solve, values[0])
    return seconds, calls, instead


def check(folder: pathlib.Path, name: str, outputs: list[jax.Array]) -> float:
    """Prints how far each output is from TensorFlow's; returns the largest difference."""
    differences = []
    with np.load(folder / f"{name}.outputs.npz") as expected:
        for key, output in zip(sorted(expected.files), outputs, strict=True):
            kept = exported_report.thinned(output)
            differences.append(exported_report.difference(expected[key], kept))
            print(f"{name} {key} {output.shape}: relative difference {differences[-1]:.2e}")
    return max(differences)


if __name__ == "__main__":
    main()
