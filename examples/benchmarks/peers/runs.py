"""Who is compared by `compare.py`, on what, and how each is run."""

from __future__ import annotations

import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.common import measure
from benchmarks.peers import environments, protocol, results

_PROGRAMS = pathlib.Path(__file__).parent / "programs"


class Peer(NamedTuple):
    """Who is compared.

    Attributes:
        program: Path of what is run.
        environment: One of `environments.ENVIRONMENTS`; empty for the one that runs this file.
        arguments: Further ones of the program.
    """

    program: pathlib.Path
    environment: str = ""
    arguments: tuple[str, ...] = ()


PEERS = {
    results.OURS: Peer(_PROGRAMS / "keras_sfn_lanczos.py"),
    "jax_jvp": Peer(_PROGRAMS / "jax_matfree.py", "jax", ("--product=jvp",)),
    "jax_linearize": Peer(_PROGRAMS / "jax_matfree.py", "jax", ("--product=linearize",)),
    "curvlinops": Peer(_PROGRAMS / "curvlinops_lanczos.py", "curvlinops"),
    "spectral_density": Peer(
        _PROGRAMS / "spectral_density.py", "spectral_density", ("--product=own",)
    ),
    "spectral_density_compiled": Peer(
        _PROGRAMS / "spectral_density.py", "spectral_density", ("--product=compiled",)
    ),
    "hessianlearn": Peer(_PROGRAMS / "hessianlearn_eigensolver.py", "hessianlearn"),
}
# Widths from the input to the code.
NETWORKS = {
    "digits": (64, 256, 128, 64, 10),
    "paper": (784, 1000, 500, 250, 30),
    "small": (64, 16, 4),
}


class Settings(NamedTuple):
    """What is compared.

    Attributes:
        networks: Some of `NETWORKS`.
        names: Some of `PEERS`, ours left out: it always runs, first.
        krylov_dimensions: Products of a run.
        batch: Rows.
        rounds: How often each has its turn.
        repeats: Timed runs in each turn.
        directory: Where the environments are.
    """

    networks: Sequence[str]
    names: Sequence[str]
    krylov_dimensions: Sequence[int]
    batch: int
    rounds: int
    repeats: int
    directory: pathlib.Path


class Case(NamedTuple):
    """What each is given in turn."""

    network: str
    problem: pathlib.Path
    parameters: int
    krylov_dimension: int


def check(settings: Settings) -> None:
    """Sees whether all that is named is there.

    Raises:
        ValueError: It is not; the message says in a line what to do.
    """
    for flag, named, known in (
        ("networks", settings.networks, list(NETWORKS)),
        ("peers", settings.names, [name for name in PEERS if name != results.OURS]),
    ):
        if not set(named) <= set(known):
            raise ValueError(f"--{flag}={','.join(named)} must name some of {','.join(known)}.")
    for number in settings.krylov_dimensions:
        if number < 2:
            raise ValueError(f"--krylov_dimensions must be integers >= 2, as 16,64; not {number}.")
    for name in settings.names:
        if missing := environments.lacks(settings.directory, PEERS[name].environment):
            raise ValueError(missing)


def command_of(name: str, case: Case, settings: Settings, first_round: bool) -> list[str]:
    """Returns the command line that runs a peer once."""
    peer, directory = PEERS[name], settings.directory
    python = str(environments.python_of(directory, peer.environment))
    command = [python if peer.environment else sys.executable, str(peer.program), *peer.arguments]
    command += [f"--problem={case.problem}", f"--krylov_dimension={case.krylov_dimension}"]
    command += [f"--repeats={settings.repeats}"]
    if peer.environment and environments.ENVIRONMENTS[peer.environment].repository:
        folder = environments.repository_of(directory, peer.environment)
        command.append(f"--repository={folder}")
    # Once is enough, as it takes a run of its own.
    return [*command, "--orthogonality"] if first_round else command


def run(name: str, case: Case, settings: Settings, first_round: bool) -> protocol.Report:
    """Runs a peer once, in a process.

    Raises:
        ProgramError: It failed, or its last line is no report.
    """
    command = command_of(name, case, settings, first_round)
    own = "" if PEERS[name].environment else os.pathsep.join(sys.path)
    printed = environments.run(command, own)
    try:
        return protocol.Report(**json.loads(printed.strip().splitlines()[-1]))
    except (IndexError, TypeError, ValueError) as error:
        raise environments.ProgramError(
            f"The last line of {' '.join(command)} must be a report in JSON ({error})."
        ) from error


def compare_on(case: Case, settings: Settings) -> list[results.Row]:
    """Gives each its turn in each round; returns a row for each.

    Raises:
        ProgramError: One of them failed.
    """
    names = [results.OURS, *settings.names]
    reports: dict[str, list[protocol.Report]] = {name: [] for name in names}
    for turn in range(settings.rounds):
        for name in names:
            report = run(name, case, settings, first_round=turn == 0)
            reports[name].append(report)
            print(
                f"{case.network}, k = {case.krylov_dimension}, round {turn + 1} of "
                f"{settings.rounds}: {name} {min(report.seconds):.3f} s",
                flush=True,
            )
    return results.rows(case.network, case.parameters, case.krylov_dimension, reports)


def compare(settings: Settings, output: pathlib.Path) -> list[results.Row]:
    """Compares on every network and k; writes the results anew after each.

    Raises:
        ProgramError: One of them failed.
    """
    made_with = f"batch {settings.batch}, {measure.versions([])}"
    rows: list[results.Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for network in settings.networks:
            problem = protocol.make_problem(NETWORKS[network], settings.batch, seed=0)
            path = pathlib.Path(folder, f"{network}.npz")
            protocol.write_problem(path, problem)
            for number in settings.krylov_dimensions:
                rows += compare_on(Case(network, path, problem.start.size, number), settings)
                results.write(output, rows, made_with)
    return rows
