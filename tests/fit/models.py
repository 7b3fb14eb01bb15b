"""Models whose kinds and steps are compared, each made anew at every call."""

import keras
import tensorflow as tf

import keras_sfn

L = keras.layers


def ours(**arguments):
    return keras_sfn.SaddleFreeNewton(**arguments)


class Scaled(L.Layer):
    """Has a constant that no configuration tells of."""

    def __init__(self, scale):
        super().__init__()
        self._scale = scale

    def call(self, x):
        return x * self._scale


class Parts(L.Layer):
    """Does another thing for few rows, of which the whole batch shows nothing."""

    def __init__(self, few):
        super().__init__()
        self._few = few

    def call(self, x):
        return self._few * x if (x.shape[0] or 16) < 10 else x


class NoMore(keras.constraints.Constraint):
    """Has a limit that its configuration does not tell."""

    def __init__(self, limit):
        self._limit = limit

    def __call__(self, value):
        return keras.ops.minimum(value, self._limit)


class Falling(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, by):
        self._by = by

    def __call__(self, step):
        return 1 / (1 + self._by * keras.ops.cast(step, "float32"))

    def get_config(self):
        return {}


def reversed_by(factor):
    @tf.custom_gradient
    def function(x):
        return tf.identity(x), lambda upstream: -factor * upstream

    return L.Lambda(function)


def model_of(*layers, optimizer=None, loss="mse", hidden=None, rate=0.1, frozen=False, **options):
    made = [
        L.Dense(4, **({"activation": "tanh"} | (hidden or {}))),
        L.BatchNormalization(),
        L.Dropout(rate),
        *layers,
        L.Dense(2),
    ]
    made[0].trainable = not frozen
    model = keras.Sequential([keras.Input((6,)), *made])
    model.compile(optimizer or ours(), loss, **options)
    return model


class Subclass(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.last = L.LSTM(3), L.Dense(2)

    def call(self, x, training=False):
        return self.last(self.first(x[:, None]))


def shared_layer():
    x = keras.Input((6,))
    layer = L.Dense(6, activation="silu", kernel_regularizer="l2")
    return compiled(keras.Model(x, L.Dense(2)(L.LayerNormalization()(layer(layer(x))))))


def compiled(model):
    # What a step does is tested with the others: this one is traced in a third of the time.
    optimizer = ours(krylov_dimension=2, damping=0.1)
    model.compile(optimizer, keras.losses.Huber(), metrics=["mae"])
    return model


def convolutional():
    return compiled(
        keras.Sequential(
            [
                keras.Input((6,)),
                L.Reshape((3, 2, 1)),
                L.GaussianNoise(0.1),
                L.Conv2D(2, 2, padding="same", activation="relu"),
                L.MaxPooling2D(2, padding="same"),
                L.Flatten(),
                L.Dense(2, kernel_constraint="max_norm"),
            ]
        )
    )


def attentive():
    x = keras.Input((6,))
    tokens = L.Reshape((3, 2))(x)
    tokens = L.MultiHeadAttention(2, 2, dropout=0.1)(tokens, tokens)
    return compiled(keras.Model(x, L.Dense(2, activation="softmax")(L.Flatten()(tokens))))


# Each makes the same model at every call.
EQUAL = [
    lambda: model_of(optimizer=ours(learning_rate=Falling(0.1)), metrics=["mae"]),
    lambda: model_of(Scaled(2.0), reversed_by(1.0), hidden={"kernel_constraint": NoMore(1.0)}),
    lambda: compiled(Subclass()),
    shared_layer,
    convolutional,
    attentive,
]
