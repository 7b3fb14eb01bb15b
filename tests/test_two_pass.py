import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_step import GRID, quadratic, quartic, take_step

import keras_sfn
from keras_sfn import damping as damping_lib
from keras_sfn import memory, saddle_free, two_pass, vectors

POLICIES = [
    damping_lib.FixedDamping(0.1),
    damping_lib.SearchDamping(GRID),
    damping_lib.AdaptiveDamping(),
]


def build(matrix, start, rank, positions=None, *, append=None, jit=False):
    """Returns a `Subspace`; by default its plane is all of it. Positions may be a function."""
    matrix, count = tf.constant(matrix), rank
    wanted = lambda *_: tf.eye(rank, dtype=start.dtype) if positions is None else positions
    if callable(positions):
        wanted, count = positions, 1
    elif positions is not None:
        count = len(positions)

    @tf.function(autograph=False, jit_compile=jit)
    def run(start):
        return two_pass.build(
            lambda vector: tf.linalg.matvec(matrix, vector),
            start,
            rank,
            saddle_free.ritz_pairs,
            wanted,
            count,
            append=None if append is None else tf.constant(append),
            seed=tf.constant([0, 0]),
        )

    return run(tf.constant(start))


def ritz_vectors(subspace):
    """Returns them as the rows of a matrix, shape (k, n)."""
    return np.stack([subspace.expand(axis).numpy() for axis in np.eye(len(subspace.ritz.values))])


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("appends", [False, True])
def test_ritz_pairs_are_those_of_the_stored_basis(symmetric, jit, appends):
    matrix = symmetric(np.linspace(-4, 8, 12))
    start, append = np.random.default_rng(0).normal(size=(2, 12))
    append = append if appends else None
    subspace = build(matrix, start, 5, append=append, jit=jit)
    stored = keras_sfn.lanczos(
        lambda vector: tf.linalg.matvec(matrix, vector),
        tf.constant(start),
        5,
        append=None if append is None else tf.constant(append),
    )
    values, coordinates = np.linalg.eigh(stored.projected)
    np.testing.assert_allclose(subspace.ritz.values, values, atol=1e-9)
    ours, theirs = ritz_vectors(subspace), coordinates.T @ stored.basis.numpy()
    np.testing.assert_allclose(np.abs(np.sum(ours * theirs, axis=1)), 1, rtol=1e-9)
    np.testing.assert_allclose(ours @ ours.T, np.eye(5), atol=1e-9)
    np.testing.assert_allclose(subspace.gradient.numpy() @ ours, start, atol=1e-9)


@pytest.mark.parametrize("kind", ["zero", "in the span"])
def test_a_vector_that_adds_nothing_makes_room_for_a_krylov_vector(symmetric, kind):
    matrix = symmetric(np.linspace(-4, 8, 12))
    start = np.random.default_rng(0).normal(size=12)
    append = {"zero": np.zeros(12), "in the span": matrix @ start - 3 * start}[kind]
    with_it, without = (build(matrix, start, 5, append=a) for a in (append, None))
    np.testing.assert_allclose(with_it.ritz.values, without.ritz.values, atol=1e-9)


@pytest.mark.parametrize("appends", [False, True])
def test_where_the_krylov_space_ends_the_rows_are_zero(symmetric, appends):
    values, rotation = np.linalg.eigh(symmetric([-3.0, 1.0, 2.0, 4.0, 5.0]))
    matrix = rotation @ np.diag(values) @ rotation.T
    start = rotation[:, 0] + rotation[:, 2]
    append = rotation[:, 4] - rotation[:, 0] if appends else None
    subspace = build(matrix, start, 4, append=append)
    expected = [-3, 0, 2, 5] if appends else [-3, 0, 0, 2]
    np.testing.assert_allclose(subspace.ritz.values, expected, atol=1e-9)
    vectors_ = ritz_vectors(subspace)
    np.testing.assert_allclose(subspace.gradient.numpy() @ vectors_, start, atol=1e-9)
    kept = [0, 2, 3] if appends else [0, 3]
    lengths = np.linalg.norm(vectors_, axis=1)
    np.testing.assert_allclose(lengths, [float(row in kept) for row in range(4)], atol=1e-9)


def test_only_the_space_of_the_positions_is_held(symmetric):
    matrix = symmetric(np.linspace(-4, 8, 12))
    start = np.random.default_rng(0).normal(size=12)
    positions = np.random.default_rng(1).normal(size=(2, 6))
    positions = np.stack([positions[0], positions[1], np.full(6, np.inf)])
    subspace, whole = build(matrix, start, 6, positions), build(matrix, start, 6)
    assert len(subspace.sums) == 3
    for position in (positions[0], -7 * positions[1], positions[0] + positions[1]):
        expected = position @ ritz_vectors(whole)
        signs = np.sign(whole.gradient.numpy() * subspace.gradient.numpy())
        np.testing.assert_array_equal(signs, 1)
        np.testing.assert_allclose(subspace.expand(position), expected, atol=1e-9)


def orthogonal_step(matrix, start, rank, append=None):
    """Returns the direction in a Krylov space of NumPy's, in double precision."""
    matrix, start = matrix.astype("float64"), start.astype("float64")
    basis = np.zeros((0, len(start)))
    row = start
    for index in range(rank):
        row = append.astype("float64") if append is not None and index == rank - 1 else row
        for _ in range(2):
            row = row - basis.T @ (basis @ row)
        basis = np.vstack([basis, row / np.linalg.norm(row)])
        row = matrix @ basis[-1]
    values, rotation = np.linalg.eigh(basis @ matrix @ basis.T)
    return basis.T @ (rotation @ (rotation.T @ (basis @ start) / (np.abs(values) + 1)))


def direction_alone(ritz, gradient):
    return -saddle_free.saddle_free_direction(ritz.values, gradient, 1.0)[None]


def step_of(subspace):
    return subspace.expand(direction_alone(subspace.ritz, subspace.gradient)[0]).numpy()


@pytest.mark.parametrize(
    ("rank", "jit", "appends"),
    [(10, False, False), (24, True, False), (24, False, True), (24, True, True)],
)
def test_converged_ritz_values_do_not_change_the_step(with_outliers, rank, jit, appends):
    matrix, start = (part.astype("float32") for part in with_outliers)
    append = np.random.default_rng(1).normal(size=200).astype("float32") if appends else None
    expected = orthogonal_step(matrix, start, rank, append)
    found = step_of(build(matrix, start, rank, direction_alone, append=append, jit=jit))
    assert np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected)


def counted(matrix, start, rank, append=None):
    """Returns the subspace, and how many products were made for it."""
    calls = []

    def matvec(vector):
        calls.append(None)
        return matrix @ vector

    subspace = tf.function(
        lambda: two_pass.build(
            lambda vector: tf.ensure_shape(
                tf.numpy_function(matvec, [vector], vector.dtype), vector.shape
            ),
            tf.constant(start),
            rank,
            saddle_free.ritz_pairs,
            direction_alone,
            1,
            append=None if append is None else tf.constant(append),
            seed=tf.constant([0, 0]),
        ),
        autograph=False,
    )()
    return subspace, len(calls)


def test_without_converged_ritz_values_few_more_products_are_made(symmetric):
    matrix, start = symmetric(np.linspace(-4, 8, 60)), np.random.default_rng(0).normal(size=60)
    # Nine rows, and five more until they are known; the second pass makes no product of the last.
    assert counted(matrix, start, 9)[1] == 2 * (9 + 5) - 1
    assert counted(matrix, start, 9, np.ones(60))[1] == 2 * (9 + 5)


def test_of_a_matrix_of_low_rank_no_more_products_are_made_than_show_it(symmetric):
    values = np.concatenate([[-2.0, 3.0, 5.0], np.zeros(57)])
    matrix = symmetric(values).astype("float32")
    start = np.random.default_rng(0).normal(size=60).astype("float32")
    subspace, products = counted(matrix, start, 12)
    assert products < 2 * 12
    expected = orthogonal_step(matrix, start, 4)
    np.testing.assert_allclose(step_of(subspace), expected, atol=1e-5 * np.abs(expected).max())


def test_rows_that_show_nothing_new_are_not_made_for_ever(symmetric):
    # Four eigenvalues to rounding: nothing says that the Krylov space has ended.
    random = np.random.default_rng(3)
    values = np.repeat([-2.0, 1.0, 3.0, 5.0], 50) + 5e-7 * random.normal(size=200)
    matrix = symmetric(values).astype("float32")
    start = np.random.default_rng(0).normal(size=200).astype("float32")
    subspace, products = counted(matrix, start, 8)
    # There would be room for 48 rows.
    assert products < 2 * 30
    expected = orthogonal_step(matrix, start, 4)
    found = step_of(subspace)
    assert np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected)


def test_rows_that_there_is_no_room_to_find_are_left_out(with_outliers, monkeypatch):
    matrix, start = (part.astype("float32") for part in with_outliers)
    rank, rows = 20, 32
    monkeypatch.setattr(two_pass._Passes, "most_rows", rows)
    subspace, products = counted(matrix, start, rank)
    assert products == 2 * rows - 1
    kept = np.count_nonzero(subspace.ritz.values)
    assert 5 < kept < rank
    expected = orthogonal_step(matrix, start, kept)
    found = step_of(subspace)
    assert np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected)


def test_without_a_gradient_it_starts_from_a_random_vector(symmetric):
    matrix = symmetric([-3.0, 1.0, 2.0])
    subspace = build(matrix, np.zeros(3), 3)
    np.testing.assert_allclose(subspace.ritz.values, [-3, 1, 2], atol=1e-9)
    np.testing.assert_array_equal(subspace.gradient, 0)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("with_previous", [False, True])
def test_the_step_is_that_of_the_stored_basis(policy, jit, with_previous):
    start, previous = np.random.default_rng(0).normal(size=(2, 40))
    options = {"krylov_dimension": 6, "jit": jit, "previous": previous if with_previous else None}
    stored, twice = (
        take_step(quartic, start, policy, store_basis=store, **options) for store in (True, False)
    )
    assert bool(twice.accepted)
    for name, value in stored._asdict().items():
        np.testing.assert_allclose(getattr(twice, name), value, rtol=1e-6, atol=1e-8, err_msg=name)


def test_max_step_norm_bounds_the_step():
    start = np.random.default_rng(0).normal(size=40)
    step = take_step(quartic, start, POLICIES[1], store_basis=False, max_step_norm=0.01).step
    np.testing.assert_allclose(np.linalg.norm(step), 0.01)


@pytest.mark.parametrize("policy", POLICIES)
def test_leaves_an_exact_saddle(policy):
    loss_fn = lambda p: 5 * p[0] ** 2 - p[1] ** 2 + 0.1 * p[1] ** 4
    step = take_step(loss_fn, [0.0, 0.0], policy, store_basis=False).step
    np.testing.assert_allclose(np.abs(step), [0, 1], atol=1e-6)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("jit", [False, True])
def test_nan_gives_a_rejected_step(policy, jit):
    loss_fn = lambda p: tf.reduce_sum(p**2) * tf.constant(np.nan, "float64")
    result = take_step(loss_fn, [1.0, 2.0], policy, jit=jit, store_basis=False)
    assert not bool(result.accepted)
    np.testing.assert_array_equal(result.step, [0, 0])


def test_damped_newton_solves_a_quadratic(symmetric):
    matrix = symmetric([-3.0, -1.0, 0.5, 2.0, 6.0])
    options = {"direction": saddle_free.newton_direction, "leave_saddles": False}
    point = np.array([1.0, -2.0, 0.5, 3.0, 1.0])
    result = take_step(
        quadratic(matrix), point, damping_lib.FixedDamping(0.0), store_basis=False, **options
    )
    np.testing.assert_allclose(point + result.step, 0, atol=1e-9)


def steps_from_the_same_states(
    make, digits, optimizer=keras_sfn.SaddleFreeNewton, krylov_dimension=8, **options
):
    """Returns steps with the stored basis, and those without it from the same states."""
    x, y = digits[0][:500], digits[1][:500]
    stored, twice = make(), make()
    for model, store_basis in ((stored, True), (twice, False)):
        model.compile(
            optimizer(krylov_dimension=krylov_dimension, store_basis=store_basis, **options),
            "sparse_categorical_crossentropy",
        )
        model.optimizer.build(model.trainable_variables)
    pairs = []
    for _ in range(4):
        before = flat(stored)
        for source, target in zip(stored.variables, twice.variables, strict=True):
            target.assign(source)
        for source, target in zip(
            stored.optimizer.variables, twice.optimizer.variables, strict=True
        ):
            target.assign(source)
        for model in (stored, twice):
            model.train_on_batch(x, y)
        pairs.append((flat(stored) - before, flat(twice) - before))
    return pairs


def flat(model):
    return np.concatenate([w.ravel() for w in model.get_weights()]).astype("float64")


CASES = {
    "search": {},
    "adaptive, graph": {"damping": "adaptive", "jit_compile": False},
    "fixed": {"damping": 0.01},
    "damped": {"damping": 0.3, "optimizer": keras_sfn.DampedNewton},
    "no previous step": {"use_previous_step": False},
    "slices, part of the rows": {"micro_batch_size": 150, "curvature_batch_size": 200},
    "reverse": {"hvp_mode": "reverse_over_reverse", "damping": "adaptive"},
    "24 vectors": {"krylov_dimension": 24},
    "40 vectors, damped, graph": {
        "optimizer": keras_sfn.DampedNewton,
        "krylov_dimension": 40,
        "damping": 0.3,
        "jit_compile": False,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_steps_on_digits_are_the_same(case, make_classifier, digits):
    for expected, found in steps_from_the_same_states(make_classifier, digits, **CASES[case]):
        assert np.linalg.norm(expected) > 0.01
        assert np.linalg.norm(found - expected) < 1e-3 * np.linalg.norm(expected)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_steps_on_digits_are_the_same_in_double_precision(make_classifier, digits):
    for expected, found in steps_from_the_same_states(make_classifier, digits, jit_compile=True):
        assert np.linalg.norm(found - expected) < 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("make", [keras_sfn.SaddleFreeNewton, keras_sfn.DampedNewton])
def test_the_option_is_in_the_config(make):
    config = make(store_basis=False).get_config()
    assert config["store_basis"] is False
    assert make.from_config(config).get_config() == config


def test_the_whole_hessian_is_its_basis():
    with pytest.raises(ValueError, match="`store_basis` cannot be False with the whole Hessian"):
        keras_sfn.DampedNewton(krylov_dimension=None, store_basis=False)


def test_what_cannot_fit_is_refused_whatever_the_krylov_dimension(monkeypatch):
    space = vectors.ParameterSpace([keras.Variable(np.zeros(100), dtype="float32")])
    monkeypatch.setattr(memory, "device_memory", lambda: (19 * 400, "machine"))
    memory.refuse_basis_too_large(space, 9, stored=False)
    with pytest.raises(MemoryError, match="Use a fixed damping or a shorter list"):
        memory.refuse_basis_too_large(space, 10, stored=False)
    v = keras.Variable(np.zeros(100), dtype="float32")
    optimizer = keras_sfn.SaddleFreeNewton(krylov_dimension=50, store_basis=False)
    optimizer.minimize(lambda: tf.reduce_sum((v.value - 1) ** 2), [v])
    np.testing.assert_allclose(v.numpy(), 1, atol=1e-3)


_PEAKS = """
import gc, sys
import keras, numpy as np, tensorflow as tf, keras_sfn
x = np.random.default_rng(0).normal(size=(4, 500)).astype("float32")
memory = lambda: tf.config.experimental.get_memory_info("CPU:0")
for case in sys.argv[2:]:
    k, store = (int(text) for text in case.split(","))
    before = memory()["current"]
    model = keras.Sequential([keras.Input((500,)), keras.layers.Dense(1000, activation="tanh")])
    model.compile(
        keras_sfn.SaddleFreeNewton(
            krylov_dimension=k, store_basis=bool(store), jit_compile=bool(int(sys.argv[1])),
            damping=0.1,
        ),
        "mse",
    )
    model.train_on_batch(x, x[:, :1])
    tf.config.experimental.reset_memory_stats("CPU:0")
    model.train_on_batch(x, x[:, :1])
    print((memory()["peak"] - before) / (4 * model.count_params()))
    del model
    keras.utils.clear_session()
    gc.collect()
"""


@pytest.mark.slow
# Without XLA two or three ops may run side by side or not, whatever the Krylov dimension.
@pytest.mark.parametrize(("jit", "tolerance"), [(0, 4), (1, 1)])
def test_memory_does_not_grow_with_the_krylov_dimension(jit, tolerance, optimized_code):
    command = [sys.executable, "-c", _PEAKS, str(jit), "4,0", "24,0", "24,1"]
    printed = subprocess.check_output(command, text=True)
    few, many, stored = (float(line) for line in printed.splitlines())
    assert abs(many - few) < tolerance
    assert stored > many + 15
