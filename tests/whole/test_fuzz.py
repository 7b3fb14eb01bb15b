"""Properties that hold for any model, loss, batch and setting, on random small ones."""

import json
import warnings

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st

import keras_sfn

pytestmark = pytest.mark.slow

# The same examples at every run, no time limit, and no search for a smaller example, which takes
# minutes: each one is traced anew.
SETTINGS = hypothesis.settings(
    derandomize=True,
    deadline=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)

ACTIVATIONS = ["linear", "relu", "tanh", "softplus", "gelu", "elu", "softsign", "selu"]

# Losses, with the activation of the last layer and what the targets are.
LOSSES = {
    "mse": ("linear", "real"),
    "mae": ("linear", "real"),
    "huber": ("linear", "real"),
    "log_cosh": ("linear", "real"),
    "cosine_similarity": ("linear", "real"),
    "mean_squared_logarithmic_error": ("softplus", "count"),
    "poisson": ("softplus", "count"),
    "binary_crossentropy": ("sigmoid", "binary"),
    "binary_focal_crossentropy": ("sigmoid", "binary"),
    "hinge": ("tanh", "binary"),
    "squared_hinge": ("linear", "binary"),
    "categorical_crossentropy": ("softmax", "class"),
    "kl_divergence": ("softmax", "class"),
}

LAYERS = st.one_of(
    st.builds(
        lambda units, activation, scale: (
            lambda: keras.layers.Dense(
                units,
                activation=activation,
                kernel_regularizer=keras.regularizers.L2(scale) if scale else None,
            )
        ),
        st.integers(1, 5),
        st.sampled_from(ACTIVATIONS),
        st.sampled_from([0, 0.1]),
    ),
    st.sampled_from(
        [
            keras.layers.BatchNormalization,
            keras.layers.LayerNormalization,
            lambda: keras.layers.PReLU(),
            lambda: keras.layers.Dense(3, use_bias=False, kernel_initializer="zeros"),
        ]
    ),
)

OPTIONS = st.fixed_dictionaries(
    {
        "learning_rate": st.sampled_from([1.0, 0.3, 3.0]),
        "krylov_dimension": st.integers(1, 6),
        "curvature_batch_size": st.sampled_from([None, 1, 3, 100]),
        "inner_steps": st.sampled_from([1, 1, 3]),
        "use_previous_step": st.booleans(),
        "reorthogonalize": st.booleans(),
        "max_step_norm": st.sampled_from([None, 0.1]),
        "hvp_mode": st.sampled_from(["auto", "reverse_over_reverse"]),
        "seed": st.integers(0, 3),
    }
)


def targets(kind, shape, rng):
    if kind == "binary":
        return rng.integers(0, 2, shape)
    if kind == "count":
        return rng.integers(0, 4, shape)
    if kind == "class":
        return np.eye(shape[1])[rng.integers(0, shape[1], shape[0])]
    return rng.normal(size=shape)


def make(draw, layers, optimizer):
    """Returns a compiled model, a batch and weights of its rows or None."""
    loss = draw(st.sampled_from(sorted(LOSSES)))
    activation, kind = LOSSES[loss]
    rows, inputs, outputs = (draw(st.integers(1, most)) for most in (9, 4, 3))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    keras.utils.set_random_seed(draw(st.integers(0, 99)))
    model = keras.Sequential([keras.Input((inputs,))])
    for layer in layers:
        model.add(layer())
    model.add(keras.layers.Dense(outputs, activation=activation))
    model.compile(optimizer, loss)
    x = rng.normal(size=(rows, inputs)) * draw(st.sampled_from([1.0, 0.0, 1e-3, 30.0]))
    weights = rng.integers(0, 3, rows) if draw(st.booleans()) else None
    return model, x, targets(kind, (rows, outputs), rng), weights


def finite(model):
    return all(np.isfinite(v.numpy()).all() for v in [*model.weights, *model.optimizer.variables])


@hypothesis.settings(SETTINGS, max_examples=7)
@hypothesis.given(
    st.data(), st.lists(LAYERS, max_size=3), OPTIONS, st.sampled_from(["search", "adaptive"])
)
def test_the_loss_of_a_batch_never_rises(data, layers, options, damping):
    optimizer = keras_sfn.SaddleFreeNewton(damping=damping, jit_compile=False, **options)
    model, x, y, weights = make(data.draw, layers, optimizer)
    before = None
    for _ in range(4):
        loss = model.train_on_batch(x, y, sample_weight=weights)
        last = optimizer.last_step
        assert np.isfinite(loss)
        assert last.new_loss <= last.loss
        # The loss that this step finds is the one at which the last step has left the model.
        rounding = 1e-5 * max(1, abs(last.loss))
        assert before is None or last.loss <= before + rounding
        before = last.new_loss
        assert finite(model)
        model.reset_metrics()


@hypothesis.settings(SETTINGS, max_examples=7)
@hypothesis.given(
    st.data(),
    st.lists(st.one_of(LAYERS, st.just(lambda: keras.layers.Dropout(0.5))), max_size=3),
    OPTIONS,
    st.fixed_dictionaries(
        {
            "damping": st.sampled_from(["search", "adaptive", 0.0, 1e-3, 10.0]),
            "weight_decay": st.sampled_from([None, 0.1]),
            "use_ema": st.booleans(),
        }
    ),
    st.lists(st.sampled_from([1.0, 1e20, np.nan, np.inf, -np.inf]), min_size=3, max_size=3),
)
def test_parameters_stay_finite_whatever_comes(data, layers, options, more, scales):
    """Fixed dampings overshoot and batches are broken; nothing but a rejected step follows."""
    optimizer = keras_sfn.SaddleFreeNewton(jit_compile=False, **options, **more)
    model, x, y, weights = make(data.draw, layers, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for scale in scales:
            before = [v.numpy() for v in model.trainable_variables]
            model.train_on_batch(x * scale, y, sample_weight=weights)
            assert finite(model)
            after = [v.numpy() for v in model.trainable_variables]
            if optimizer.last_step.outcome != "accepted":
                for got, expected in zip(after, before, strict=True):
                    np.testing.assert_array_equal(got, expected)


ARGUMENTS = [
    *("learning_rate", "krylov_dimension", "damping", "curvature_batch_size"),
    *("inner_steps", "use_previous_step", "reorthogonalize", "hvp_mode", "max_step_norm"),
    *("jit_compile", "seed", "weight_decay", "use_ema"),
    *("ema_momentum", "clipnorm", "foo"),
]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 20),
    st.floats(),
    st.sampled_from(["search", "adaptive", "auto", "fast", ""]),
    st.lists(st.floats(), max_size=3),
)


@hypothesis.settings(SETTINGS, max_examples=200)
@hypothesis.given(st.dictionaries(st.sampled_from(ARGUMENTS), VALUES, min_size=1, max_size=3))
def test_arguments_are_taken_and_written_back_or_refused_by_name(arguments):
    refusal = None
    try:
        optimizer = keras_sfn.SaddleFreeNewton(**arguments)
    except ValueError as error:
        refusal = str(error)
    if refusal is None:
        config = json.loads(json.dumps(optimizer.get_config()))
        restored = keras_sfn.SaddleFreeNewton.from_config(config).get_config()
        assert restored == optimizer.get_config()
    else:
        assert any(f"`{name}" in refusal for name in arguments), refusal
