import gc
import threading
import weakref

import keras
import numpy as np
import pytest
from absl import logging

import keras_sfn
from keras_sfn.fit import compiling, shared_steps
from keras_sfn.optimizers import newton_optimizer
from tests.fit import models

L = keras.layers

X = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
Y = (X[:, :2] ** 2).astype("float32")


@pytest.fixture
def traces(monkeypatch):
    """The optimizers whose step was traced, one entry a trace."""
    found = []
    step = newton_optimizer.NewtonOptimizer.step

    def counted(self, *arguments, **options):
        found.append(self.name)
        return step(self, *arguments, **options)

    monkeypatch.setattr(newton_optimizer.NewtonOptimizer, "step", counted)
    return found


@pytest.fixture
def said(monkeypatch):
    """Lines of the log, but for those that depend on how long a step takes."""
    lines = []
    monkeypatch.setattr(compiling, "_PATIENCE", 3600.0)

    def log(level, text, *arguments):
        lines.append(text % arguments)

    monkeypatch.setattr(logging, "log", log)
    return lines


def model_of(seed=1, units=4, rate=0.1, normalised=False, **options):
    keras.utils.set_random_seed(seed)
    norm = [L.BatchNormalization()] if normalised else []
    hidden = [L.Dense(units, activation="tanh"), *norm, L.Dropout(rate)]
    return compiled(keras.Sequential([keras.Input((6,)), *hidden, L.Dense(2)]), **options)


def compiled(model, **arguments):
    # Steps that are traced in a fifth of the time of others.
    arguments = {"jit_compile": False, "krylov_dimension": 2, "damping": 0.1} | arguments
    model.compile(keras_sfn.SaddleFreeNewton(**arguments), "mse", metrics=["mae"])
    return model


def fit(model, epochs=2, x=X, y=Y, **options):
    options = {"batch_size": 16, "shuffle": False, "verbose": 0} | options
    return model.fit(x, y, epochs=epochs, **options).history


def state(model):
    return [v.numpy() for v in (*model.variables, *model.optimizer.variables)]


def assert_same(one, other):
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "arguments",
    [
        {"krylov_dimension": "auto", "damping": "auto", "stochastic": False},
        {"normalised": True, "use_ema": True, "weight_decay": 0.1},
    ],
    ids=repr,
)
def test_a_second_model_is_trained_without_a_trace_and_to_the_last_digit(arguments, traces):
    fit(first := model_of(seed=2, **arguments))
    fit(second := model_of(seed=3, **arguments))
    assert len(traces) == 1
    shared_steps.forget()
    fit(alone := model_of(seed=3, **arguments))
    assert len(traces) == 2
    assert_same(state(second), state(alone))
    assert any(np.any(a != b) for a, b in zip(state(first), state(second), strict=True))


def test_clones_folds_and_compiling_again_share_one_trace(traces):
    model = model_of()
    fit(model)
    clone = compiled(keras.models.clone_model(model))
    fit(clone)
    fit(compiled(model))
    for fold in range(3):
        rest = np.arange(32) % 4 != fold
        fit(model_of(), x=np.repeat(X[rest], 2, axis=0)[:32], y=np.repeat(Y[rest], 2, axis=0)[:32])
    assert len(traces) == 1


def test_another_kind_and_another_shape_are_traced(traces):
    fit(model_of())
    fit(model_of(units=5))
    fit(model_of(), batch_size=8)
    fit(model_of(), sample_weight=np.ones(32))
    assert len(traces) == 4
    fit(model_of(), sample_weight=np.arange(32.0))
    fit(model_of(), class_weight={0: 2.0, 1: 0.5}, y=Y[:, :1] > 0.5)
    assert len(traces) == 5


def test_of_several_sizes_of_batches_the_second_stands_for_all_that_follow(traces):
    def grown():
        model = model_of()
        for size in (12, 16, 20, 24):
            fit(model, 1, X[:size], Y[:size], batch_size=size)
        return state(model)

    first = grown()
    assert len(traces) == 2
    assert_same(grown(), first)
    assert len(traces) == 2


def test_weights_of_rows_are_data(traces):
    def trained(weights):
        model = model_of(seed=3)
        fit(model, sample_weight=weights)
        return state(model)

    ones = trained(np.ones(32, "float32"))
    others = trained(np.arange(32, dtype="float32"))
    assert len(traces) == 1
    shared_steps.forget()
    assert_same(trained(np.arange(32, dtype="float32")), others)
    assert any(np.any(a != b) for a, b in zip(ones, others, strict=True))


def test_two_models_that_live_at_once_train_in_turns_as_each_alone(traces):
    def batches(seed):
        return np.random.default_rng(seed).normal(size=(4, 16, 6)).astype("float32")

    def turns(pairs):
        for index in range(4):
            for model, data in pairs:
                fit(model, 1, data[index], data[index, :, :2])
        return [state(model) for model, _ in pairs]

    one, other = turns([(model_of(seed=2), batches(0)), (model_of(seed=3), batches(1))])
    assert len(traces) == 1
    shared_steps.forget()
    [one_alone] = turns([(model_of(seed=2), batches(0))])
    shared_steps.forget()
    [other_alone] = turns([(model_of(seed=3), batches(1))])
    assert_same(one, one_alone)
    assert_same(other, other_alone)


def test_nothing_of_a_model_is_held_by_its_step(traces, collect):
    model = model_of()
    fit(model)
    held = [model, model.optimizer, *model.layers, *model.variables, *model.optimizer.variables]
    held = [weakref.ref(each) for each in held]
    values = [weakref.ref(v.value) for v in (*model.variables, *model.optimizer.variables)]
    second = model_of()
    fit(second)
    del model
    collect()
    assert [each() for each in (*held, *values) if each() is not None] == []
    fit(second)
    fit(third := model_of(), 4)
    assert len(traces) == 1
    assert_same(state(second), state(third))


def test_what_the_optimizer_says_is_as_after_a_trace(said):
    def told(model):
        said.clear()
        fit(model)
        optimizer = model.optimizer
        [first, *_] = [line for line in said if line.startswith("saddle_free_newton: ")]
        return first, optimizer.last_step.kind, optimizer.options_in_use

    preconditioned = {"krylov_dimension": "auto", "damping": "auto", "stochastic": False}
    known = told(model_of(**preconditioned))
    assert known[0].startswith("saddle_free_newton: preconditioned directions (1 to 8), ")
    assert known[1] == "preconditioned directions"
    others = told(model_of())
    assert others[1] == "Lanczos vectors"
    assert told(model_of(**preconditioned)) == known
    assert told(model_of()) == others
    assert sum("for its like" in line for line in said) == 1


def test_steps_change_their_kind_with_shared_programs_too(traces):
    # Batches without noise: the first step is of averaged gradients, the others are not.
    x, y = np.tile(X[:8], (8, 1)), np.tile(Y[:8], (8, 1))

    def trained():
        model = model_of(krylov_dimension="auto", damping="auto", rate=0.0)
        fit(model, 2, x, y)
        return model.optimizer.last_step.kind, state(model)

    kind, first = trained()
    assert kind == "preconditioned directions"
    assert len(traces) == 2
    other_kind, second = trained()
    assert len(traces) == 2
    assert other_kind == kind
    assert_same(first, second)


def test_a_saved_model_goes_on_with_the_step_of_another(traces, tmp_path):
    whole = model_of()
    fit(whole, 4)
    fit(model := model_of(), 2)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    fit(restored, 2)
    assert len(traces) == 1
    assert_same(
        [v.numpy() for v in whole.trainable_variables],
        [v.numpy() for v in restored.trainable_variables],
    )


def test_xla_compiles_a_shared_step_when_it_pays(monkeypatch, traces):
    from keras_sfn.curvature import survey

    monkeypatch.setattr(survey, "_KERNELS_BEFORE_JIT", 600)
    fit(first := model_of(jit_compile="auto"), 4)
    fit(second := model_of(jit_compile="auto"), 4)
    assert len(traces) == 1
    assert_same(state(first), state(second))


def test_the_store_is_bounded_and_a_model_keeps_its_step(monkeypatch, traces):
    monkeypatch.setattr(shared_steps, "_MOST", 1)
    fit(first := model_of())
    fit(model_of(units=5))
    fit(first)
    assert len(traces) == 2
    fit(model_of())
    assert len(traces) == 3


def test_models_in_threads_share_a_step(traces):
    fit(model_of())
    several = [model_of(seed=seed) for seed in range(3)]
    threads = [threading.Thread(target=fit, args=(model, 3)) for model in several]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(traces) == 1
    for seed, model in enumerate(several):
        fit(alone := model_of(seed=seed), 3)
        assert_same(state(model), state(alone))


def test_what_has_no_kind_trains_as_before(traces):
    for _ in range(2):
        model = model_of()
        model.steps_per_execution = 2
        fit(model)
    assert len(traces) == 2
    model.train_on_batch(X, Y)


def test_a_step_that_reads_something_else_is_taken_but_not_kept(monkeypatch, traces):
    monkeypatch.setattr(
        keras_sfn.SaddleFreeNewton,
        "unsaved_variables",
        property(lambda optimizer: [optimizer._slopes.variable]),
    )
    fit(first := model_of())
    fit(second := model_of())
    assert len(traces) == 2
    assert_same(state(first), state(second))


def test_a_failing_model_gets_the_error_of_its_own_trace():
    class Failing(L.Layer):
        def call(self, x):
            raise RuntimeError("as it is")

    model = keras.Sequential([L.Dense(2), Failing()])
    with pytest.raises(RuntimeError, match="as it is"):
        fit(compiled(model))


@pytest.mark.slow
@pytest.mark.parametrize("make", models.EQUAL)
def test_models_of_many_kinds_take_the_steps_of_a_trace_of_their_own(make, traces):
    def trained(seed):
        keras.utils.set_random_seed(seed)
        model = make()
        fit(model, 3)
        return state(model)

    trained(2)
    count = len(traces)
    shared = trained(3)
    assert len(traces) == count
    shared_steps.forget()
    assert_same(shared, trained(3))
    assert len(traces) == 2 * count


@pytest.mark.slow
def test_many_models_in_a_row_leave_nothing_behind(traces, collect):
    def objects():
        for _ in range(4):
            fit(model_of(), 1)
        collect()
        return len(gc.get_objects())

    objects()
    before = objects()
    # A few of TensorFlow's own come and go.
    assert objects() < before + 100
    assert len(traces) == 1
