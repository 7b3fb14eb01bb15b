"""Training by several processes that talk over the loopback address."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.whole import replica_runs

pytestmark = [pytest.mark.slow, pytest.mark.first]

TIMEOUT = 400  # Seconds for all of a launch; a busy machine takes half a minute to begin.


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def launch(count, directory, *arguments):
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    workers = []
    for index in range(count):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        command = [sys.executable, replica_runs.__file__, str(directory), *arguments]
        with open(pathlib.Path(directory, f"{index}.log"), "a") as log:
            workers.append(
                subprocess.Popen(
                    command,
                    stdout=log,
                    stderr=log,
                    env={
                        **os.environ,
                        "PYTHONPATH": os.pathsep.join(sys.path),
                        "TF_CONFIG": json.dumps(task),
                    },
                )
            )
    return workers


def results(workers, directory):
    """Waits for all workers; returns what each wrote."""
    try:
        codes = [worker.wait(TIMEOUT) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    logs = [pathlib.Path(directory, f"{i}.log").read_text() for i in range(len(workers))]
    assert not any(codes), "\n".join(logs)[-10000:]
    return [
        json.loads(pathlib.Path(directory, f"{i}.json").read_text()) for i in range(len(workers))
    ]


def assert_same_steps(found, case, losses, tolerance):
    for worker in found:
        np.testing.assert_allclose(worker[case]["losses"], losses, atol=tolerance, rtol=tolerance)
        assert worker[case]["digests"] == found[0][case]["digests"], case


def test_two_workers_take_the_steps_of_one_device(tmp_path, float64):
    # "plain" are the steps of "go on", and of three workers.
    cases = ["all rows", "NaN", "synchronized", "part of the rows, three steps at once"]
    # Another function than on one device: each worker has statistics of its own.
    own = ["batch statistics"]
    found = results(launch(2, tmp_path, "float64", *cases, *own, "unlike", "go on"), tmp_path)
    for case in cases:
        one = replica_runs.train(case)
        assert_same_steps(found, case, one["losses"], 1e-9)
        assert found[0][case]["rejected"] == one["rejected"]
    for case in own:
        assert found[1][case]["digests"] == found[0][case]["digests"], case
        first, second = np.split(np.array(found[0][case]["losses"]), 2)
        assert second.mean() < first.mean()
    for worker, width in zip(found, (1, 2), strict=True):
        # And they go on afterwards.
        assert "Replica 1 differs from replica 0 in its batch" in worker["unlike"]
        assert f"float64({width},)" in worker["unlike"]
    assert_same_steps(found, "go on", replica_runs.train("plain")["losses"], 1e-9)


def test_three_workers_take_the_steps_of_one_device(tmp_path):
    found = results(launch(3, tmp_path, "float32", "plain"), tmp_path)
    assert_same_steps(found, "plain", replica_runs.train("plain")["losses"], 1e-3)


def test_a_worker_alone_trains_on_one_batch(tmp_path):
    [found] = results(launch(1, tmp_path, "float32", "one batch"), tmp_path)
    assert found["one batch"][2] < found["one batch"][0]


# The ninth step renews the preconditioner, the eighth does not: each is begun by one worker alone.
@pytest.mark.parametrize("after", [7, 8])
def test_a_run_goes_on_after_a_worker_was_killed(after, tmp_path, float64):
    (tmp_path / "stop").write_text(str(after))
    workers = launch(2, tmp_path, "float64", "backed up")
    steps, deadline = tmp_path / "steps", time.time() + TIMEOUT
    while not steps.exists() or int(steps.read_text() or 0) < after:
        assert time.time() < deadline, (tmp_path / "0.log").read_text()[-10000:]
        time.sleep(0.05)
    workers[1].kill()
    (tmp_path / "killed").touch()
    try:
        # The other one cannot go on alone. It ends with an error, and both begin again.
        assert workers[0].wait(TIMEOUT) != 0
    finally:
        workers[0].kill()
    found = results(launch(2, tmp_path, "float64", "backed up"), tmp_path)
    losses = replica_runs.train("plain", epochs=3)["losses"]
    assert_same_steps(found, "backed up", losses[5:], 1e-9)
