"""Whether rows of a batch meet, on models and losses as users of Keras write them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.objective import model_loss, objective, parameter_space, row_axes, traced
from tests.objective import nets

K, layers = keras.ops, keras.layers
ROWS = 12
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, 6)).astype("float32")
Y = RNG.normal(size=(ROWS, 3)).astype("float32")
CLASSES = RNG.integers(0, 3, ROWS)
POSITIVE = np.abs(Y)


def network(*more, activation=None):
    hidden = layers.Dense(8, "tanh")
    return keras.Sequential([keras.Input((6,)), hidden, *more, layers.Dense(3, activation)])


def sequence(*more):
    reshaped = [layers.Reshape((6, 1)), layers.Dense(4)]
    return keras.Sequential(
        [keras.Input((6,)), *reshaped, *more, layers.Flatten(), layers.Dense(3)]
    )


def image(*more):
    start = [layers.Reshape((3, 2, 1)), *more]
    return keras.Sequential([keras.Input((6,)), *start, layers.Flatten(), layers.Dense(3)])


def attention():
    inputs = keras.Input((6,))
    tokens = layers.Dense(4)(layers.Reshape((6, 1))(inputs))
    attended = layers.MultiHeadAttention(2, 2)(tokens, tokens)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(attended)))


def own(function, shape=(3,)):
    """A model that ends in a function of its outputs."""
    return keras.Sequential([network(), layers.Lambda(function, output_shape=shape)])


class Columns(keras.Model):
    """Returns a residual whose derivative is by columns of a slice."""

    def __init__(self):
        super().__init__()
        self.inner = keras.Sequential([layers.Dense(8, "tanh"), layers.Dense(1)])

    def call(self, points):
        with tf.GradientTape() as tape:
            tape.watch(points)
            u = self.inner(points) * points[:, 2:3]
        slopes = tape.gradient(u, points)
        return slopes[:, :1] + slopes[:, 1:2] * u


class Penalty(layers.Layer):
    """Adds a loss of what passes through."""

    def __init__(self, penalty):
        super().__init__()
        self.penalty = penalty

    def call(self, x):
        self.add_loss(self.penalty(x))
        return x


def mean_square(_, z):
    return K.mean(z**2)


def contrastive(y, z):
    scores = K.log_softmax(K.matmul(z, K.transpose(y)))
    return -K.mean(K.diagonal(scores))


def correlation(_, z):
    count = K.cast(K.shape(z)[0], "float32")
    return K.mean((K.matmul(K.transpose(z), z) / count - K.eye(3)) ** 2)


def mean_by_hand(y, z):
    return K.sum((y - z) ** 2) / K.cast(K.shape(z)[0] * K.shape(z)[1], "float32")


def weighted(y, z):
    weights = K.exp(y)
    return K.sum(weights * (y - z) ** 2) / (K.sum(weights) + 1e-6)


def root(y, z):
    return K.sqrt(K.sum((y - z) ** 2) / K.cast(K.size(z), "float32"))


def in_groups(_, z):
    first, second, third = K.split(z, 3, axis=0)
    return K.mean((first - second) ** 2) + K.mean(third**2)


def half_square(_, z):
    return tf.nn.l2_loss(z) / K.cast(K.shape(z)[0], "float32")


def squeezed(z):
    return tf.ensure_shape(tf.squeeze(K.expand_dims(z, 0)), (None, 3))


def of_table(z):
    largest = K.argmax(z, axis=1)
    return tf.gather_nd(K.eye(3), K.stack([largest, largest], axis=1))[:, None]


def stacked_with_transpose(square):
    return K.sum(K.stack([square, K.transpose(square)]), axis=0)


# Model, loss: what only averages over rows, if over these at all.
APART = {
    "dense, mse": lambda: (network(), "mse"),
    "softmax, sparse": lambda: (network(activation="softmax"), "sparse_categorical_crossentropy"),
    "logits": lambda: (network(), keras.losses.BinaryCrossentropy(from_logits=True)),
    "dice": lambda: (network(activation="sigmoid"), "dice"),
    "tversky": lambda: (network(activation="sigmoid"), "tversky"),
    "cosine": lambda: (network(), "cosine_similarity"),
    "dropout": lambda: (network(layers.Dropout(0.2)), "mse"),
    "batch norm": lambda: (network(layers.BatchNormalization()), "mse"),
    "layer norm": lambda: (network(layers.LayerNormalization()), "mse"),
    "regularised": lambda: (network(layers.Dense(4, kernel_regularizer="l2")), "mse"),
    "gru": lambda: (sequence(layers.GRU(4, return_sequences=True)), "mse"),
    "attention": lambda: (attention(), "mse"),
    "convolution": lambda: (
        image(layers.Conv2D(4, 2, padding="same"), layers.MaxPooling2D(2)),
        "mse",
    ),
    "group norm": lambda: (
        image(layers.Conv2D(4, 2, padding="same"), layers.GroupNormalization(2)),
        "mse",
    ),
    "residual": lambda: (nets.Laplace(), mean_square),
    "slopes by column": lambda: (Columns(), mean_square),
    "add_loss": lambda: (network(Penalty(lambda x: K.mean(x**2))), "mse"),
    "correlation": lambda: (network(), correlation),
    "mean by hand": lambda: (network(), mean_by_hand),
    "weighted by hand": lambda: (network(), weighted),
    "root mean square": lambda: (network(), root),
    "softmax by hand": lambda: (
        own(lambda z: K.exp(z) / K.sum(K.exp(z), axis=-1, keepdims=True)),
        "mse",
    ),
    "centred on the batch": lambda: (own(lambda z: z - K.mean(z, axis=0)), "mse"),
    "tokens as rows": lambda: (own(lambda z: K.reshape(z, (-1, 1)) ** 2, (1,)), mean_square),
    "softmax over channels": lambda: (own(lambda z: K.softmax(z[:, :, None], 1)[:, :, 0]), "mse"),
    "turned": lambda: (own(lambda z: K.transpose(K.transpose(z) * 2.0)), "mse"),
}

# Likewise: functions of the outputs.
APART |= {
    name: lambda function=function, loss=loss: (own(function), loss)
    for name, function, loss in (
        ("new axis", lambda z: K.squeeze(K.expand_dims(z, 1), 1), "mse"),
        ("axes of length one", squeezed, "mse"),
        ("stacked", lambda z: K.mean(K.stack([z, 2.0 * z]), axis=0), "mse"),
        ("joined", lambda z: K.concatenate([z[:, :1], z[:, 1:] ** 2], axis=1), "mse"),
        ("unstacked", lambda z: K.stack(K.unstack(z, axis=1), axis=1), "mse"),
        ("split by columns", lambda z: K.concatenate(K.split(z, 3, axis=1), axis=1), "mse"),
        ("tiled", lambda z: K.tile(z, (1, 2))[:, :3], "mse"),
        ("padded", lambda z: K.pad(z, ((0, 0), (1, 0)))[:, :3], "mse"),
        ("slice", lambda z: K.tile(tf.slice(z, (0, 0), (-1, 1)), (1, 3)), "mse"),
        ("columns", lambda z: K.take(z, [2, 0, 1], axis=1), "mse"),
        ("rows of a table", lambda z: z + K.take(K.eye(3), K.argmax(z, axis=1), axis=0), "mse"),
        ("one hot", lambda z: z * K.one_hot(K.argmax(z, axis=1), 3), "mse"),
        ("entry of each row", lambda z: z * tf.gather(z, K.argsort(z), batch_dims=1), "mse"),
        (
            "entries of a table",
            lambda z: z * of_table(z),
            "mse",
        ),
        ("turned and taken", lambda z: K.transpose(K.take(K.transpose(z), [1, 2, 0], 0)), "mse"),
        ("repeated", lambda z: tf.broadcast_to(z[:, :1], tf.shape(z)), "mse"),
        ("ellipsis", lambda z: z[..., None][..., 0], "mse"),
        ("column alone", lambda z: z * z[:, 1][:, None], "mse"),
        ("zeros", lambda z: z + tf.zeros((tf.shape(z)[0], 3)), "mse"),
        ("half a square", lambda z: z, half_square),
        ("over two axes", lambda z: z, lambda _, z: K.mean(K.einsum("...i,...j->...ij", z, z))),
    )
}

# And the op that is named.
MEET = {
    "contrastive": (lambda: (network(), contrastive), "MatMul"),
    "circle": (lambda: (network(), keras.losses.Circle()), "MatMul"),
    "softmax over the batch": (lambda: (own(lambda z: K.softmax(z, axis=0)), "mse"), "Softmax"),
    "maximum over the batch": (lambda: (own(lambda z: z - K.max(z, axis=0)), "mse"), "Max"),
    "sorted": (lambda: (own(lambda z: K.sort(z, axis=0)), "mse"), "TopKV2"),
    "cumulated": (lambda: (own(lambda z: K.cumsum(z, axis=0)), "mse"), "Cumsum"),
    "neighbours": (lambda: (own(lambda z: z - K.roll(z, 1, axis=0)), "mse"), ""),
    "turned round": (lambda: (own(lambda z: z - K.flip(z, axis=0)), "mse"), "Reverse"),
    "first row": (lambda: (own(lambda z: z - z[:1]), "mse"), "StridedSlice"),
    "every second": (lambda: (own(lambda z: z - z[::2][:1]), "mse"), "StridedSlice"),
    "distances": (
        lambda: (own(lambda z: K.mean((z[:, None] - z[None]) ** 2, axis=1)), "mse"),
        "",
    ),
    "groups": (lambda: (network(), in_groups), "Split"),
    "gathered": (
        lambda: (own(lambda z: z * K.take(z, [0, 1, 2], axis=0)[:1]), "mse"),
        "Gather",
    ),
    "attention over the batch": (
        lambda: (own(lambda z: K.matmul(K.softmax(K.matmul(z, K.transpose(z))), z)), "mse"),
        "MatMul",
    ),
    "scaled by a sum": (lambda: (own(lambda z: K.tanh(z / K.sum(z**2))), "mse"), "Tanh"),
    "joined with itself": (
        lambda: (own(lambda z: K.concatenate([z, z], 0)), mean_square),
        "Concat",
    ),
    "joined with its transpose": (
        lambda: (own(lambda z: stacked_with_transpose(K.tile(z, (1, 4)))), mean_square),
        "Pack",
    ),
    "repeated rows": (lambda: (own(lambda z: K.tile(z, (2, 1))), mean_square), "Tile"),
    "padded rows": (lambda: (own(lambda z: K.pad(z, ((1, 0), (0, 0)))), mean_square), "Pad"),
    "slice of rows": (
        lambda: (own(lambda z: tf.slice(z, (1, 0), (3, 3))), mean_square),
        "Slice",
    ),
    "some of the entries": (
        lambda: (own(lambda z: tf.gather_nd(z, [[0], [2]])), mean_square),
        "GatherNd",
    ),
    "permuted": (lambda: (own(lambda z: z - tf.gather(z, K.argmax(z, axis=1))), "mse"), "Gather"),
    "square root of a sum of all": (
        lambda: (network(), lambda y, z: tf.norm(z)),
        "no mean",
    ),
    "largest entry": (lambda: (network(), lambda y, z: K.max(z**2)), "Max"),
    "eigenvalues": (
        lambda: (own(lambda z: tf.linalg.eigvalsh(K.tile(z, (1, 4)))), mean_square),
        "SelfAdjointEig",
    ),
    "sum": (lambda: (network(), lambda y, z: K.sum((y - z) ** 2)), "no mean"),
    "add_loss of a sum": (lambda: (network(Penalty(lambda x: K.sum(x**2))), "mse"), "no mean"),
    "squared sum": (lambda: (network(), lambda y, z: K.sum(z) ** 2), "no mean"),
}


def meeting(make, known):
    """What is found where the number of rows is known when the loss is traced, or is not."""
    model, loss = make()
    model.compile(loss=loss)
    y = POSITIVE
    if isinstance(loss, keras.losses.Circle) or loss == "sparse_categorical_crossentropy":
        y = CLASSES
    model._symbolic_build(data_batch=(X, y, None))
    space = parameter_space.ParameterSpace(model.trainable_variables)
    found = []

    def trace(*data):
        loss_fn = model_loss.batch_loss(model, *data, None)
        found.append(traced.trace(objective.Objective(loss_fn, space), data).rows_meet)

    rows = ROWS if known else None
    specs = [tf.TensorSpec((rows, *part.shape[1:]), part.dtype) for part in (X, y)]
    tf.function(trace, autograph=False).get_concrete_function(*specs)
    return found[0]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("name", APART)
def test_means_over_rows_are_those_of_a_part(name, known):
    assert meeting(APART[name], known) is None


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("name", MEET)
def test_rows_that_meet_are_seen(name, known):
    make, named = MEET[name]
    found = meeting(make, known)
    assert found is not None
    assert named in found


def times_numbers(z):
    return z * tf.cast(tf.range(tf.shape(z)[0]), z.dtype)[:, None]


def segments(z):
    return tf.math.unsorted_segment_sum(z, tf.zeros(ROWS, tf.int32), 2)


def mean(z):
    return tf.reduce_mean(z**2)


# Functions of rows, without Keras around them: ops as they come out of other code. What is named
# where rows meet; None where they do not.
GRAPHS = {
    "cumulated columns": (lambda z: mean(tf.cumsum(z, axis=1)), None),
    "turned shape": (lambda z: mean(tf.reshape(z, (3, -1))), "Reshape"),
    "parts of a sum": (lambda z: mean(tf.split(tf.reduce_mean(z, 0), 3)[0]), None),
    "columns of a transpose": (lambda z: mean(tf.transpose(z)[..., :]), None),
    "row of a transpose": (lambda z: mean(tf.transpose(z)[0:2]), None),
    "reversed": (lambda z: mean(z[::-1]), "StridedSlice"),
    "several of a table": (lambda z: mean(tf.range(9.0)[: tf.shape(z)[1]] * z), None),
    "repeated constant": (lambda z: mean(z * tf.broadcast_to(2.0, tf.shape(z))), None),
    "repeated mean": (lambda z: mean(z - tf.broadcast_to(tf.reduce_mean(z, 0), (2, 3))[:1]), None),
    "numbered rows": (
        lambda z: mean(times_numbers(z)),
        None,
    ),
    "noise": (lambda z: mean(z + tf.random.stateless_normal(tf.shape(z), (1, 2))), None),
    "tiled by a shape": (lambda z: mean(tf.tile(z, (1, tf.shape(z)[1]))), None),
    "sizes": (lambda z: tf.reduce_sum(z) / tf.cast(tf.size(z), z.dtype), None),
    "largest of each": (lambda z: tf.reduce_mean(tf.reduce_max(z, axis=1)), None),
    "product of all": (lambda z: tf.reduce_prod(z), "Prod"),
    "in a loop": (lambda z: tf.reduce_mean(tf.map_fn(lambda row: row**2, z)), "TensorList"),
    "segments": (
        lambda z: mean(segments(z)),
        "Segment",
    ),
    "outer product": (lambda z: mean(tf.einsum("ni,mi->nm", z, z)), "Einsum"),
    "Gram matrix": (lambda z: mean(tf.einsum("ni,nj->ij", z, z)), "no mean"),
    "batched products": (lambda z: mean(tf.linalg.matvec(z[:, :, None] * z[:, None], z)), None),
    "square of a sum over the count": (
        lambda z: (tf.reduce_sum(z) / tf.cast(tf.shape(z)[0], z.dtype)) ** 2,
        None,
    ),
    "exponential of a sum": (lambda z: tf.exp(tf.reduce_sum(z)), "Exp"),
    "shuffled": (lambda z: mean(z * tf.random.shuffle(z)), "Shuffle"),
    "some": (lambda z: mean(tf.boolean_mask(z, z[:, 0] > 0)), "Where"),
    "eigenvalues of each": (
        lambda z: mean(tf.linalg.eigvalsh(z[:, :, None] * z[:, None])),
        None,
    ),
    "transposed softmax": (lambda z: mean(tf.nn.softmax(tf.transpose(z))), "Softmax"),
}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("name", GRAPHS)
def test_graphs(name, known):
    function, named = GRAPHS[name]
    spec = tf.TensorSpec((ROWS if known else None, 3))
    graph = tf.function(function, autograph=False).get_concrete_function(spec).graph
    found = row_axes.meeting(graph, graph.inputs[:1], graph.outputs[0])
    if named is None:
        assert found is None
    else:
        assert found is not None
        assert named in found
