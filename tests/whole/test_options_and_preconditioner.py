"""What users set, freeze, mask or share: the default's steps are preconditioned all the same."""

from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn

K, L = keras.ops, keras.layers
ROWS = 300
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, 6))
Y = np.tanh(X @ RNG.normal(size=(6, 2)))
LABELS = (Y[:, 0] > 0).astype("int64")
WEIGHTS = RNG.uniform(0.2, 2.0, ROWS)
# Sequences whose ends are filled up with zeros.
LENGTHS = RNG.integers(2, 6, ROWS)
FILLED = np.arange(5) < LENGTHS[:, None]
SEQUENCES = RNG.normal(size=(ROWS, 5, 3)) * FILLED[..., None]
WORDS = RNG.integers(1, 9, (ROWS, 5)) * FILLED

PART = "preconditioned directions"
LOOPS = "preconditioned directions through loops"
ALL_ROWS = "preconditioned directions on all rows"


class Case(NamedTuple):
    """A compiled model's parts, what `fit` gets, and the kind of step that is expected.

    Attributes:
        model: Not compiled.
        loss: Of `compile`.
        x: Inputs.
        y: Targets.
        compiled: Other options of `compile`.
        fitted: Other options of `fit`.
        options: Of the optimizer.
        kind: Of the steps.
    """

    model: keras.Model
    loss: Any = "mse"
    x: Any = X
    y: Any = Y
    compiled: dict[str, Any] | None = None
    fitted: dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    kind: str = PART


def network(*layers, shape=(6,)):
    return keras.Sequential([keras.Input(shape), *layers])


def plain():
    return network(L.Dense(8, "tanh"), L.Dense(2))


def check(case):
    """Takes steps on all rows and looks at them; returns the optimizer and the losses."""
    optimizer = keras_sfn.SaddleFreeNewton(**{"jit_compile": False} | (case.options or {}))
    case.model.compile(optimizer, case.loss, **(case.compiled or {}))
    fitted = {"batch_size": ROWS, "epochs": 4, "verbose": 0} | (case.fitted or {})
    losses = case.model.fit(case.x, case.y, shuffle=False, **fitted).history["loss"]
    assert optimizer.options_in_use["preconditioner"] == "kronecker"
    assert optimizer.last_step.kind == case.kind
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    return optimizer, losses


# Reductions, weights and slices.


def a_sum():
    return Case(plain(), keras.losses.MeanSquaredError(reduction="sum"), kind=ALL_ROWS)


def mean_with_sample_weight():
    loss = keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")
    return Case(plain(), loss, fitted={"sample_weight": WEIGHTS}, kind=ALL_ROWS)


def sample_weight():
    return Case(plain(), fitted={"sample_weight": WEIGHTS})


def sample_mask():
    return Case(plain(), fitted={"sample_weight": (WEIGHTS > 1).astype("float64")})


def class_weight():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Case(plain(), loss, y=LABELS, fitted={"class_weight": {0: 0.3, 1: 2.0}})


def micro_batches():
    return Case(plain(), options={"micro_batch_size": 128})


def several_losses():
    inputs = keras.Input((6,))
    hidden = L.Dense(8, "tanh")(inputs)
    outputs = {
        "value": L.Dense(2, name="value")(hidden),
        "sign": L.Dense(1, "sigmoid", name="sign")(hidden),
    }
    return Case(
        keras.Model(inputs, outputs),
        {"value": "mse", "sign": "binary_crossentropy"},
        y={"value": Y, "sign": LABELS[:, None]},
        compiled={"loss_weights": {"value": 2.0, "sign": 0.5}},
    )


def a_mean_and_a_sum():
    case = several_losses()
    loss = case.loss | {"value": keras.losses.MeanSquaredError(reduction="sum")}
    return case._replace(loss=loss, kind=ALL_ROWS)


# Masks.


def masking_to_the_loss():
    layers = L.Masking(), L.Dense(8, "tanh"), L.Dense(1)
    y = np.sin(SEQUENCES.sum(-1, keepdims=True))
    return Case(network(*layers, shape=(5, 3)), x=SEQUENCES, y=y)


def masking_to_an_average():
    layers = L.Masking(), L.Dense(8, "tanh"), L.GlobalAveragePooling1D(), L.Dense(2)
    return Case(network(*layers, shape=(5, 3)), x=SEQUENCES)


def masking_to_a_loop():
    return Case(
        network(L.Masking(), L.SimpleRNN(6), L.Dense(2), shape=(5, 3)), x=SEQUENCES, kind=LOOPS
    )


def embedding_to_an_average():
    layers = L.Embedding(9, 4, mask_zero=True), L.GlobalAveragePooling1D(), L.Dense(2)
    return Case(network(*layers, shape=(5,)), x=WORDS)


def embedding_to_a_loop():
    layers = L.Embedding(9, 4, mask_zero=True), L.GRU(4), L.Dense(2)
    return Case(network(*layers, shape=(5,)), x=WORDS, kind=LOOPS)


def embedding_to_attention():
    words = keras.Input((5,))
    embedded = L.Embedding(9, 4, mask_zero=True)(words)
    attended = L.MultiHeadAttention(2, 3)(embedded, embedded)
    outputs = L.Dense(2)(L.GlobalAveragePooling1D()(attended))
    return Case(keras.Model(words, outputs), x=WORDS)


def weights_of_time_steps():
    layers = L.Dense(8, "tanh"), L.Dense(1)
    y = np.sin(SEQUENCES.sum(-1, keepdims=True))
    weights = {"sample_weight": FILLED.astype("float64")}
    return Case(network(*layers, shape=(5, 3)), x=SEQUENCES, y=y, fitted=weights)


# How a step is compiled.


def without_xla():
    return Case(plain(), compiled={"jit_compile": False})


def with_xla():
    return Case(plain(), options={"jit_compile": True})


def with_xla_of_the_model():
    return Case(plain(), compiled={"jit_compile": True}, options={"jit_compile": "auto"})


def eagerly():
    return Case(plain(), compiled={"run_eagerly": True})


# Layers that are frozen, adapted, shared.


def frozen():
    model = plain()
    model.layers[0].trainable = False
    return Case(model)


def frozen_last():
    model = plain()
    model.layers[-1].trainable = False
    return Case(model)


def adapted_dense():
    model = plain()
    for layer in model.layers:
        layer.enable_lora(2)
    return Case(model)


def adapted_einsum():
    hidden = L.EinsumDense("abc,cd->abd", (5, 4), bias_axes="d", activation="tanh")
    model = network(hidden, L.Flatten(), L.Dense(2), shape=(5, 3))
    hidden.enable_lora(2)
    return Case(model, x=SEQUENCES)


def adapted_embedding():
    embedding = L.Embedding(9, 4)
    model = network(embedding, L.GlobalAveragePooling1D(), L.Dense(2), shape=(5,))
    embedding.enable_lora(2)
    return Case(model, x=WORDS)


def only_adapters():
    hidden = L.Dense(8, "tanh", use_bias=False)
    model = network(hidden, L.Dense(2))
    hidden.enable_lora(2)
    model.layers[-1].trainable = False
    return Case(model)


def shared():
    inputs = keras.Input((6,))
    again = L.Dense(6, "tanh")
    return Case(keras.Model(inputs, L.Dense(2)(again(again(again(inputs))))))


def tied_embedding():
    words = keras.Input((5,))
    embedding = L.ReversibleEmbedding(9, 6)
    hidden = L.Dense(6, "tanh")(embedding(words))
    model = keras.Model(words, embedding(hidden, reverse=True))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Case(model, loss, x=WORDS, y=np.roll(WORDS, 1, axis=1))


def siamese():
    left, right = keras.Input((6,)), keras.Input((6,))
    encoder = plain()
    apart = L.Subtract()([encoder(left), encoder(right)])
    near = L.Dense(1, "sigmoid")(L.Lambda(K.square)(apart))
    same = np.equal(LABELS, LABELS[::-1]).astype("float64")[:, None]
    return Case(keras.Model([left, right], near), "binary_crossentropy", x=[X, X[::-1]], y=same)


class Residual(keras.Model):
    """Solves u'' = -y in 0..1 with u = 0 at both ends."""

    def __init__(self):
        super().__init__()
        self.net = network(L.Dense(8, "tanh"), L.Dense(8, "tanh"), L.Dense(1), shape=(1,))

    def call(self, x):
        return self.net(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                u = self.net(x)
            slope = inner.gradient(u, x)
        bend = outer.gradient(slope, x)
        ends = self.net(tf.constant([[0.0], [1.0]], x.dtype))
        return K.mean((bend + y) ** 2) + K.mean(ends**2)


def residual():
    x = np.linspace(0, 1, ROWS)[:, None]
    return Case(Residual(), None, x=x, y=np.sin(3 * x))


QUICK = [a_sum, class_weight, frozen]
CASES = [
    mean_with_sample_weight,
    sample_weight,
    sample_mask,
    micro_batches,
    several_losses,
    a_mean_and_a_sum,
    masking_to_the_loss,
    masking_to_an_average,
    masking_to_a_loop,
    embedding_to_an_average,
    embedding_to_a_loop,
    embedding_to_attention,
    weights_of_time_steps,
    with_xla,
    with_xla_of_the_model,
    eagerly,
    frozen_last,
    adapted_dense,
    adapted_einsum,
    adapted_embedding,
    only_adapters,
    shared,
    tied_embedding,
    siamese,
    residual,
]


@pytest.mark.parametrize(
    "make", [*QUICK, *(pytest.param(make, marks=pytest.mark.slow) for make in CASES)]
)
def test_steps_are_preconditioned(make):
    check(make())


@pytest.fixture
def policy(request):
    floatx = request.param if request.param == "float64" else "float32"
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "policy"),
    [(without_xla, "mixed_bfloat16"), (masking_to_a_loop, "float64"), (siamese, "mixed_bfloat16")],
    indirect=["policy"],
)
def test_steps_are_preconditioned_in_other_precisions(make, policy):
    optimizer, _ = check(make())
    assert optimizer.last_step.ritz_values.dtype == keras.config.floatx()


def size_of_p(optimizer):
    [curvature] = [v for v in optimizer.variables if v.path.endswith("/curvature")]
    return curvature.shape[0]


@pytest.mark.slow
def test_thawed_layers_are_preconditioned_after_another_compile():
    case = frozen()
    start = case.model.layers[0].get_weights()
    optimizer, losses = check(case)
    for weight, before in zip(case.model.layers[0].get_weights(), start, strict=True):
        np.testing.assert_array_equal(weight, before)
    case.model.layers[0].trainable = True
    thawed, further = check(case)
    assert size_of_p(thawed) > size_of_p(optimizer)
    assert further[0] <= losses[-1]
    assert not np.allclose(case.model.layers[0].get_weights()[0], start[0])
