import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sfn
from keras_sfn.objective import constraints, parameter_space


def problem(rows=60, size=5, seed=0):
    """Returns rows, targets, and the least squares as w'Aw - 2 b'w + c with A, b and c."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, size)) * [1, 2, 0.5, 1, 3][:size]
    y = x @ np.array([1.0, -0.5, 2.0, -1.0, 0.3])[:size] + rng.normal(size=rows)
    return x, y, (x.T @ x / rows, x.T @ y / rows, np.mean(y**2))


def within(bounds):
    """The least squares within bounds, by coordinates in turn."""

    def solve(a, b):
        w = np.zeros_like(b)
        for _ in range(2000):
            for i in range(len(w)):
                w[i] = np.clip((b[i] - a[i] @ w + a[i, i] * w[i]) / a[i, i], *bounds)
        return w

    return solve


def of_norm(norm):
    """The least squares of a norm: (A + m) w = b with the one m, above -min(A), that gives it."""

    def solve(a, b):
        least = -np.linalg.eigvalsh(a)[0]
        low, high = least, least + 1e4
        for _ in range(200):
            middle = (low + high) / 2
            w = np.linalg.solve(a + middle * np.eye(len(b)), b)
            low, high = (middle, high) if np.linalg.norm(w) > norm else (low, middle)
        return w

    return solve


CASES = {
    "non_neg": (keras.constraints.NonNeg(), within((0, np.inf))),
    "a function": (lambda w: keras.ops.clip(w, -0.4, 0.4), within((-0.4, 0.4))),
    "max_norm": (keras.constraints.MaxNorm(0.7), of_norm(0.7)),
    "min_max_norm": (keras.constraints.MinMaxNorm(4.0, 5.0), of_norm(4.0)),
    "unit_norm": (keras.constraints.UnitNorm(), of_norm(1.0)),
}


def slow(*case):
    return pytest.param(*case, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("non_neg", {"damping": "search"}),
        slow("non_neg", {"damping": "adaptive", "krylov_dimension": 2, "max_step_norm": 0.5}),
        slow("non_neg", {}),
        slow("a function", {"damping": "search", "inner_steps": 3}),
        slow("max_norm", {"damping": "search"}),
        slow("min_max_norm", {"damping": "adaptive"}),
        slow("unit_norm", {}),
    ],
    ids=str,
)
def test_training_ends_at_the_constrained_minimum_and_no_step_raises_the_loss(name, options):
    constraint, solve = CASES[name]
    x, y, (a, b, c) = problem()
    expected = solve(a, b)
    # Outside of all constraints: initial values know nothing of them.
    w = keras.Variable(np.full(5, -3.0), dtype="float64")
    w.constraint = constraint
    options = {"krylov_dimension": 5} | options if options else {}
    optimizer = keras_sfn.SaddleFreeNewton(jit_compile=False, **options)

    @tf.function
    def train():
        loss = lambda: tf.reduce_mean((tf.linalg.matvec(x, w.value) - y) ** 2)
        return optimizer.minimize(loss, [w])

    losses = []
    for _ in range(150):
        losses.append(float(train()))
        np.testing.assert_allclose(constraint(w.value), w.value, rtol=1e-6)
    assert max(np.diff(losses)) < 1e-6 * losses[0]
    least = expected @ a @ expected - 2 * b @ expected + c
    assert losses[-1] == pytest.approx(least, rel=1e-5)
    np.testing.assert_allclose(w.numpy(), expected, atol=2e-3)


def test_what_can_be_followed_of_a_gradient():
    values = [[0.0, 0.0, 2.0, 1e-5], [0.6, 0.8], [3.0]]
    variables = [keras.Variable(value, dtype="float64") for value in values]
    variables[0].constraint = keras.constraints.NonNeg()
    variables[1].constraint = keras.constraints.UnitNorm()
    space = parameter_space.ParameterSpace(variables)
    gradient = tf.constant([1.0, -1.0, 1.0, -1.0, 1.0, 0.0, -5.0], "float64")
    allowed = constraints.Constraints(space, space.values(), gradient)
    # At the bound: kept inside, free to leave. On the circle: along the tangent (0.8, -0.6).
    followed = [0.0, -1.0, 1.0, -1.0, 0.8 * 0.8, -0.8 * 0.6, -5.0]
    np.testing.assert_allclose(allowed.gradient, followed, atol=2e-3)
    step = allowed.step(tf.constant([5.0, 1.0, -3.0, 0.0, 0.4, 0.2, 1.0], "float64"))
    np.testing.assert_allclose(step[:4], [0, 1, -2, 0])
    np.testing.assert_allclose(step[4:6], np.array([1, 1]) / 2**0.5 - [0.6, 0.8], atol=1e-6)
    assert step[6] == 1
    product = allowed.masked(lambda v: v + 1)(tf.ones(7, "float64"))
    np.testing.assert_array_equal(product, [0, 2, 2, 2, 2, 2, 2])


def test_nothing_is_done_without_constraints():
    variable = keras.Variable([1.0, 2.0])
    space = parameter_space.ParameterSpace([variable])
    gradient, matvec = tf.constant([1.0, 2.0]), lambda v: v
    allowed = constraints.Constraints(space, space.values(), gradient)
    assert allowed.gradient is gradient
    assert allowed.step(gradient) is gradient
    assert allowed.masked(matvec) is matvec
    assert not constraints.any_of([variable])


def test_a_gradient_that_is_not_finite_stays_so():
    variable = keras.Variable([1.0, 2.0])
    variable.constraint = keras.constraints.NonNeg()
    space = parameter_space.ParameterSpace([variable])
    allowed = constraints.Constraints(space, space.values(), tf.constant([np.nan, 1.0]))
    assert not np.isfinite(allowed.gradient.numpy()).all()


def test_only_what_is_far_from_its_constraint_is_enforced():
    far, near = keras.Variable([3.0, 4.0]), keras.Variable([0.6, 0.8])
    far.constraint = near.constraint = keras.constraints.UnitNorm()
    before = near.numpy()
    constraints.enforce([far, near, keras.Variable([7.0])])
    np.testing.assert_allclose(far.numpy(), [0.6, 0.8], rtol=1e-5)
    np.testing.assert_array_equal(near.numpy(), before)
