"""Training under each of Keras's dtype policies; the arithmetic of the subspace."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn
from keras_sfn.curvature import products
from keras_sfn.newton import step as step_lib


@pytest.fixture
def policy(request):
    """Sets a dtype policy, and floatx where it is a plain dtype that may be one."""
    if request.param == "float64":
        keras.config.set_floatx("float64")
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("policy", "variables", "subspace"),
    [
        ("float32", "float32", "float32"),
        ("float64", "float64", "float64"),
        ("mixed_bfloat16", "float32", "float32"),
        ("bfloat16", "bfloat16", "float32"),
    ],
    indirect=["policy"],
)
def test_policies_train_in_a_wide_enough_subspace(policy, variables, subspace, monkeypatch):
    dtypes = set()
    original = step_lib.newton_step

    def spy(problem, settings, loss, learning_rate, start):
        result = original(problem, settings, loss, learning_rate, start)
        found = (start.gradient, result.step, result.ritz_values, result.damping)
        dtypes.update(tensor.dtype.name for tensor in found)
        return result

    original_product = products.hessian_vector_product

    def product_spy(*arguments):
        matvec = original_product(*arguments)

        def seen(vector):
            product = matvec(vector)
            dtypes.add(product.dtype.name)
            return product

        return seen

    monkeypatch.setattr(step_lib, "newton_step", spy)
    monkeypatch.setattr(products, "hessian_vector_product", product_spy)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4))
    y = np.tanh(x @ rng.normal(size=(4, 2)))
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(6, activation="tanh"), keras.layers.Dense(2)]
    )
    model.compile(keras_sfn.SaddleFreeNewton(jit_compile=False), "mse")
    losses = model.fit(x, y, batch_size=64, epochs=8, verbose=0).history["loss"]
    assert dtypes == {subspace}
    assert {v.value.dtype for v in model.trainable_variables} == {tf.as_dtype(variables)}
    assert losses[-1] < 0.3 * losses[0]
    state = {v.name: v.value.dtype.name for v in model.optimizer.variables}
    assert state["damping"] == subspace
