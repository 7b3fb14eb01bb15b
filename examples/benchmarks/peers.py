r"""Lanczos of keras_sfn against that of other projects: the same function, start and products.

    python examples/benchmarks/peers/make_environments.py \
        --spectral_density=FOLDER --hessianlearn=FOLDER
    python examples/benchmarks/peers.py --networks=digits,paper

Each runs in a process and an environment of its own, which the first command makes. All read the
same problem from a file: the mean squared error of a tanh autoencoder with seeded weights on a
seeded batch, in float32; all start from the same vector and take the same number of products. In
each of --rounds they take turns. Written to --output_dir: peers.csv, peers.md, peers.png.
--quick runs keras_sfn alone, on a small network.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

import measure
from absl import app, flags

_PROGRAMS = pathlib.Path(__file__).parent / "peers"
sys.path.append(str(_PROGRAMS))  # The programs' own modules, which run without this folder too.
import environments  # noqa: E402
import peer_protocol  # noqa: E402
import peer_results  # noqa: E402


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
    peer_results.OURS: Peer(_PROGRAMS / "keras_sfn_lanczos.py"),
    "jax_jvp": Peer(_PROGRAMS / "jax_matfree.py", "jax", ("--product=jvp",)),
    "jax_linearize": Peer(_PROGRAMS / "jax_matfree.py", "jax", ("--product=linearize",)),
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

_NETWORKS = flags.DEFINE_list("networks", ["digits"], f"Some of {', '.join(NETWORKS)}.")
_PEERS = flags.DEFINE_list(
    "peers", list(PEERS)[1:], f"Some of {', '.join(list(PEERS)[1:])}; keras_sfn always runs."
)
_KRYLOV = flags.DEFINE_list("krylov_dimensions", ["16", "64"], "Products of a run.")
_BATCH = flags.DEFINE_integer("batch", 512, "Rows.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "How often each has its turn.", lower_bound=1)
_REPEATS = flags.DEFINE_integer("repeats", 3, "Timed runs in each turn.", lower_bound=1)
_ENVIRONMENTS = flags.DEFINE_string(
    "environments", environments.DIRECTORY, "Where make_environments.py put them."
)
_QUICK = flags.DEFINE_bool("quick", False, "keras_sfn alone, small, once, for a try-out.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/peers", "Where results go.")


class Case(NamedTuple):
    """What each is given in turn."""

    network: str
    problem: pathlib.Path
    parameters: int
    krylov_dimension: int


def command_of(name: str, case: Case, repeats: int, first_round: bool) -> list[str]:
    """Returns the command line that runs a peer once."""
    peer, directory = PEERS[name], pathlib.Path(_ENVIRONMENTS.value)
    python = str(environments.python_of(directory, peer.environment))
    command = [python if peer.environment else sys.executable, str(peer.program), *peer.arguments]
    command += [f"--problem={case.problem}", f"--krylov_dimension={case.krylov_dimension}"]
    command += [f"--repeats={repeats}"]
    if peer.environment and environments.ENVIRONMENTS[peer.environment].repository:
        folder = environments.repository_of(directory, peer.environment)
        command.append(f"--repository={folder}")
    # Once is enough, as it takes a run of its own.
    return [*command, "--orthogonality"] if first_round else command


def run(name: str, case: Case, repeats: int, first_round: bool) -> peer_protocol.Report:
    """Runs a peer once, in a process.

    Raises:
        ProgramError: It failed, or its last line is no report.
    """
    command = command_of(name, case, repeats, first_round)
    own = "" if PEERS[name].environment else os.pathsep.join(sys.path)
    printed = environments.run(command, own)
    try:
        return peer_protocol.Report(**json.loads(printed.strip().splitlines()[-1]))
    except (IndexError, TypeError, ValueError) as error:
        raise environments.ProgramError(
            f"The last line of {' '.join(command)} must be a report in JSON ({error})."
        ) from error


def compare(case: Case, names: Sequence[str], rounds: int, repeats: int) -> list[peer_results.Row]:
    """Gives each its turn in each round; returns a row for each."""
    reports: dict[str, list[peer_protocol.Report]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names:
            report = run(name, case, repeats, first_round=turn == 0)
            reports[name].append(report)
            print(
                f"{case.network}, k = {case.krylov_dimension}, round {turn + 1} of {rounds}: "
                f"{name} {min(report.seconds):.3f} s",
                flush=True,
            )
    return peer_results.rows(case.network, case.parameters, case.krylov_dimension, reports)


def check_flags() -> list[int]:
    """Returns the numbers of --krylov_dimensions; ends the program where a flag is wrong."""
    for flag, known in ((_NETWORKS, list(NETWORKS)), (_PEERS, list(PEERS)[1:])):
        if not set(flag.value) <= set(known):
            sys.exit(f"--{flag.name}={','.join(flag.value)} must name some of {','.join(known)}.")
    if not all(number.isdigit() and int(number) > 1 for number in _KRYLOV.value):
        sys.exit(f"--krylov_dimensions={','.join(_KRYLOV.value)} must be integers >= 2, as 16,64.")
    if not _QUICK.value:
        for name in _PEERS.value:
            if missing := environments.lacks(
                pathlib.Path(_ENVIRONMENTS.value), PEERS[name].environment
            ):
                sys.exit(missing)
    return [int(number) for number in _KRYLOV.value]


def main(argv: Sequence[str]) -> None:
    """Compares and writes the results."""
    if len(argv) > 1:
        sys.exit(f"Unknown arguments: {argv[1:]}. Every setting is a --flag.")
    numbers, networks, names = check_flags(), _NETWORKS.value, _PEERS.value
    batch, rounds, repeats = _BATCH.value, _ROUNDS.value, _REPEATS.value
    if _QUICK.value:
        numbers, networks, names, batch, rounds, repeats = [4], ["small"], [], 16, 1, 2
    output = measure.output_directory(_OUTPUT_DIR.value)
    rows: list[peer_results.Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for network in networks:
            problem = peer_protocol.make_problem(NETWORKS[network], batch, seed=0)
            path = pathlib.Path(folder, f"{network}.npz")
            peer_protocol.write_problem(path, problem)
            for number in numbers:
                case = Case(network, path, problem.start.size, number)
                try:
                    rows += compare(case, [peer_results.OURS, *names], rounds, repeats)
                except environments.ProgramError as error:
                    sys.exit(str(error))
                peer_results.write(output, rows, f"batch {batch}, {measure.versions([])}")
    for line in peer_results.disagreements(rows):
        print(line)
    print((output / "peers.md").read_text())
    print(f"Results in {output}/: peers.csv, peers.md, peers.png")


if __name__ == "__main__":
    app.run(main)
