import pytest
import tensorflow as tf

from keras_sfn import devices

DENSE = frozenset({"MatMul", "Tanh"})


@pytest.mark.parametrize("option", [True, False])
@pytest.mark.parametrize("ops", [DENSE, DENSE | {"Conv2D"}])
def test_an_explicit_choice_is_kept(option, ops):
    assert devices.jit_compile(option, ops) is option


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("Softmax", True),
        ("Conv2D", False),
        ("Conv3D", False),
        ("While", False),
        ("GatherV2", False),
        ("MaxPool", False),
    ],
)
def test_auto_on_a_cpu_leaves_what_xla_is_slow_at_to_the_graph(monkeypatch, extra, expected):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [])
    assert devices.jit_compile("auto", DENSE | {extra}) is expected


def test_auto_on_a_gpu_compiles(monkeypatch):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["GPU:0"])
    assert devices.jit_compile("auto", DENSE | {"Conv2D"}) is True


def test_auto_does_not_compile_what_keras_says_cannot_be():
    assert devices.jit_compile("auto", DENSE, can_compile=False) is False


def test_one_replica_is_fine_and_two_are_refused(monkeypatch):
    devices.refuse_replicas()

    class Two:
        num_replicas_in_sync = 2

    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: Two())
    with pytest.raises(NotImplementedError, match=r"2 replicas.*outside"):
        devices.refuse_replicas()
