"""Small models, one for each layer class of Keras, and what is known of their curvature."""

import inspect
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

import keras_sfn

L = keras.layers

# Shapes of one batch, with the smallest sizes that use all of a layer.
SHAPES = {
    "vector": (8, 6),
    "sequence": (6, 6, 4),
    "image": (4, 8, 8, 3),
    "volume": (2, 6, 6, 6, 2),
    "films": (2, 3, 6, 6, 2),
}


class Case(NamedTuple):
    """How to put a layer into a model, and what is expected of its curvature.

    Attributes:
        kind: Key of `SHAPES`.
        arguments: Of the layer's constructor.
        build: Function of (input tensor, layer class) that returns the output tensor; by default
            the layer follows a dense one.
        data: Function of a random generator that returns the inputs, where those of `kind` do not
            do.
        dtype: Precision of the check; float32 where TensorFlow has no other kernel.
        static: Whether the model is built for one batch size.
        refused: Part of the error, where the layer is refused.
        note: For the table.
    """

    kind: str
    arguments: dict[str, Any] | None = None
    build: Callable[..., Any] | None = None
    data: Callable[..., Any] | None = None
    dtype: str = "float64"
    static: bool = False
    refused: str = ""
    note: str = ""


class Outcome(NamedTuple):
    """What came of a case: `"right"`, `"refused"` or another verdict, and the figure or reason.

    Attributes:
        gradient: The verdict on the gradient.
    """

    verdict: str
    error: float
    reason: str
    gradient: str = "right"


def classes():
    """Every layer class that the installed Keras exports: its name, and its other names."""
    found = {}
    for name, value in inspect.getmembers(L, inspect.isclass):
        if issubclass(value, L.Layer):
            found.setdefault(value, []).append(name)
    for value, names in found.items():
        names.sort(key=lambda name: name != value.__name__)
    return {first: others for first, *others in found.values()}


def make(name, case):
    """Returns a compiled model around the layer, and a batch."""
    shape = SHAPES[case.kind]
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape) if case.data is None else case.data(rng)
    dtype = {"f": None, "i": "int64", "O": "string"}[x.dtype.kind]
    inputs = keras.Input(x.shape[1:], len(x) if case.static else None, dtype=dtype)
    layer = getattr(L, name)
    arguments = case.arguments or {}
    if case.build is None:
        outputs = layer(**arguments)(L.Dense(shape[-1], activation="tanh")(inputs))
    else:
        outputs = case.build(inputs, layer, **arguments)
    outputs = L.Dense(2, activation="tanh")(L.Flatten()(outputs))
    model = keras.Model(inputs, outputs)
    model.compile(loss="mse")
    x = tf.constant(x, None if dtype else keras.config.floatx())
    return model, x, rng.normal(size=(len(x), 2))


def outcome(name, case):
    """Checks a layer, in the precision of its case, and says what came of it."""
    return _check(lambda: make(name, case), case.dtype)


def activation_outcome(name):
    """Checks an activation between two dense layers, in float64."""
    return _check(lambda: _activation_model(name))


def loss_outcome(name):
    """Checks a loss on a small model, in float64."""
    return _check(lambda: _loss_model(name))


def _check(make_model, dtype="float64"):
    keras.utils.set_random_seed(0)
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        report = keras_sfn.check_curvature(*make_model())
    except (NotImplementedError, ValueError) as error:
        if not str(error).startswith("The loss "):
            raise
        return Outcome("refused", np.nan, str(error))
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
    resolved = [check for check in report.variables if check.verdict != "right (zero)"]
    error = max(check.relative_error for check in resolved)
    right = all(check.verdict.startswith("right") for check in report.variables)
    return Outcome("right" if right else str(report), error, "", report.gradient.verdict)


ACTIVATIONS = sorted(
    name
    for name, value in inspect.getmembers(keras.activations, inspect.isfunction)
    if name not in {"deserialize", "get", "serialize"}
)
LOSSES = sorted(
    name
    for name, value in inspect.getmembers(keras.losses, inspect.isclass)
    if issubclass(value, keras.losses.Loss) and value is not keras.losses.Loss
)
REFUSED_LOSSES = {"CTC": "CTCLoss"}


def _activation_model(name):
    activation = getattr(keras.activations, name)
    # The one that needs more than its input.
    arguments = {"threshold": 0.3, "default_value": 0.1} if name == "threshold" else {}
    model = keras.Sequential(
        [
            keras.Input((4,)),
            L.Dense(6, activation="tanh"),
            L.Lambda(lambda z: activation(z, **arguments)),
            L.Dense(2, activation="tanh"),
        ]
    )
    model.compile(loss="mse")
    rng = np.random.default_rng(1)
    return model, rng.normal(size=(8, 4)), rng.normal(size=(8, 2))


def _loss_model(name):
    rng = np.random.default_rng(1)
    if name == "CTC":
        model = keras.Sequential([keras.Input((6, 3)), L.Dense(4)])
        model.compile(loss=keras.losses.CTC())
        return model, rng.normal(size=(2, 6, 3)), rng.integers(1, 4, (2, 2))
    y, activation = _targets(name, rng)
    model = keras.Sequential(
        [keras.Input((3,)), L.Dense(5, activation="tanh"), L.Dense(4, activation=activation)]
    )
    model.compile(loss=getattr(keras.losses, name)())
    return model, rng.normal(size=(8, 3)), y


def _targets(name, rng):
    """Targets of shape (8, 4) and the activation of the output that this loss expects."""
    hot = np.eye(4)[rng.integers(0, 4, 8)]
    if name in {"SparseCategoricalCrossentropy", "CategoricalGeneralizedCrossEntropy"}:
        return hot.argmax(axis=1), "softmax"
    if name == "Circle":  # Not defined for a class with a single row.
        hot = np.eye(4)[[0, 1, 2, 0, 1, 2, 0, 1]]
        return hot.argmax(axis=1), lambda z: z / tf.norm(z, axis=-1, keepdims=True)
    if "crossentropy" in name.lower() or name in {"KLDivergence", "Dice", "Tversky"}:
        return hot, "sigmoid" if name.startswith("Binary") else "softmax"
    if "Hinge" in name:
        return 2 * hot - 1, None
    if name in {"Poisson", "MeanSquaredLogarithmicError"}:
        return rng.uniform(1, 2, (8, 4)), "softplus"
    return rng.normal(size=(8, 4)), None


def _pair(inputs, cls, **arguments):
    """The layer applied to two tensors that different weights made."""
    first, second = (L.Dense(4, activation=a)(inputs) for a in ("tanh", "sigmoid"))
    return cls(**arguments)([first, second])


def _attend(inputs, cls, **arguments):
    first, second = (L.Dense(4, activation=a)(inputs) for a in ("tanh", "sigmoid"))
    return cls(**arguments)(first, second)


def _inside(layer):
    # `Equalization` returns a symbolic input as it is, which Keras takes for a cycle.
    return L.Lambda(lambda images: layer(images))


def _augment_data(inputs, cls, **arguments):
    """An augmentation before the first weights, on images of 0 to 255."""
    images = _inside(cls(**arguments))(L.Rescaling(30.0, 128.0)(inputs))
    return L.Conv2D(3, 3, activation="tanh")(L.Rescaling(1 / 255)(images))


def _augment_features(inputs, cls, **arguments):
    """An augmentation of what weights have made, brought to 0 to 255."""
    features = L.Conv2D(3, 1, activation="sigmoid")(inputs)
    return L.Rescaling(1 / 255)(_inside(cls(**arguments))(L.Rescaling(255)(features)))


def _saved_model(inputs, cls, **arguments):
    inner = keras.Sequential([keras.Input((6,)), L.Dense(4, activation="tanh")])
    folder = tempfile.mkdtemp()
    inner.export(folder, verbose=False)
    return cls(folder, call_endpoint="serve", **arguments)(L.Dense(6)(inputs))


def _base_layer(inputs, cls):
    class Cube(cls):
        def call(self, z):
            return z**3

        def compute_output_shape(self, shape):
            return shape

    return Cube()(L.Dense(4)(inputs))


def _base_wrapper(inputs, cls):
    class Twice(cls):
        def call(self, z):
            return self.layer(self.layer(z))

        def compute_output_shape(self, shape):
            return shape

    return Twice(L.Dense(4, activation="tanh"))(L.Dense(4)(inputs))


def _cell(inputs, cls):
    return L.RNN(cls(4))(inputs)


def _before(inputs, cls, **arguments):
    """Layers that prepare data stand before the first weights."""
    return L.Dense(4, activation="tanh")(cls(**arguments)(inputs))


def _embed(inputs, cls, **arguments):
    return L.Embedding(16, 3)(cls(**arguments)(inputs))


def _with(build, **arguments):
    return lambda inputs, cls: build(inputs, cls, **arguments)


def _wrap(make_inner):
    return lambda inputs, cls: cls(make_inner())(L.Dense(4, activation="tanh")(inputs))


def _tokens(rng):
    return rng.integers(1, 12, (6, 5))


def _words(rng):
    return np.array([["a b c"], ["b c d"], ["a a"], ["d"]], object)


CASES = {
    "Activation": Case("vector", {"activation": "softplus"}),
    "ActivityRegularization": Case("vector", {"l1": 0.1, "l2": 0.3}),
    "AdditiveAttention": Case("sequence", build=_pair),
    "AlphaDropout": Case("vector", {"rate": 0.3, "seed": 1}),
    "Attention": Case("sequence", build=_with(_pair, use_scale=True)),
    "BatchNormalization": Case("vector"),
    "Bidirectional": Case("sequence", build=_wrap(lambda: L.LSTM(3))),
    "Dense": Case("vector", {"units": 3, "activation": "tanh"}),
    "Dropout": Case("vector", {"rate": 0.4, "seed": 1}),
    "ELU": Case("vector"),
    "EinsumDense": Case("sequence", {"equation": "abc,cd->abd", "output_shape": (6, 3)}),
    "Flatten": Case("sequence"),
    "GaussianDropout": Case("vector", {"rate": 0.3, "seed": 1}),
    "GaussianNoise": Case("vector", {"stddev": 0.3, "seed": 1}),
    "GroupNormalization": Case("image", {"groups": 3}),
    "Identity": Case("vector"),
    "Lambda": Case("vector", {"function": lambda z: z * keras.ops.std(z, axis=0)}),
    "LayerNormalization": Case("sequence"),
    "LeakyReLU": Case("vector"),
    "Masking": Case("sequence", build=lambda x, cls: L.LSTM(3)(cls()(x))),
    "Normalization": Case("vector", {"mean": 0.3, "variance": 2.0}),
    "PReLU": Case("vector", {"alpha_initializer": "ones"}),
    "Permute": Case("sequence", {"dims": (2, 1)}),
    "RMSNormalization": Case("vector"),
    "ReLU": Case("vector", {"max_value": 0.5, "negative_slope": 0.1}),
    "RepeatVector": Case("vector", {"n": 3}),
    "Rescaling": Case("vector", {"scale": 0.5, "offset": 0.1}),
    "Reshape": Case("vector", {"target_shape": (2, 3)}),
    "Softmax": Case("vector"),
    "SpatialDropout1D": Case("sequence", {"rate": 0.3, "seed": 1}),
    "SpatialDropout2D": Case("image", {"rate": 0.3, "seed": 1}),
    "SpatialDropout3D": Case("volume", {"rate": 0.3, "seed": 1}),
    "SpectralNormalization": Case(
        "vector", build=_wrap(lambda: L.Dense(3)), refused="`stop_gradient` inside a loop or branch"
    ),
    "TimeDistributed": Case("sequence", build=_wrap(lambda: L.Dense(3, activation="tanh"))),
    "UnitNormalization": Case("vector"),
    # Merging
    **{
        name: Case("vector", build=_pair)
        for name in ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract")
    },
    "Dot": Case("vector", build=_with(_pair, axes=1, normalize=True)),
    # Attention
    "GroupQueryAttention": Case(
        "sequence",
        build=_with(_attend, head_dim=2, num_query_heads=4, num_key_value_heads=2, dropout=0.1),
    ),
    "MultiHeadAttention": Case(
        "sequence", build=_with(_attend, num_heads=2, key_dim=3, dropout=0.1)
    ),
    # Convolutions, pooling, cropping, padding
    "Conv1D": Case("sequence", {"filters": 3, "kernel_size": 2, "activation": "relu"}),
    "Conv1DTranspose": Case("sequence", {"filters": 3, "kernel_size": 2, "strides": 2}),
    "Conv2D": Case("image", {"filters": 3, "kernel_size": 3, "activation": "tanh"}),
    "Conv2DTranspose": Case("image", {"filters": 2, "kernel_size": 3, "strides": 2}),
    "Conv3D": Case("volume", {"filters": 2, "kernel_size": 2}),
    "Conv3DTranspose": Case("volume", {"filters": 2, "kernel_size": 2}),
    "DepthwiseConv1D": Case("sequence", {"kernel_size": 2}),
    "DepthwiseConv2D": Case("image", {"kernel_size": 3}),
    "SeparableConv1D": Case("sequence", {"filters": 3, "kernel_size": 2}),
    "SeparableConv2D": Case("image", {"filters": 3, "kernel_size": 3}),
    "AveragePooling1D": Case("sequence", {"pool_size": 2}),
    "AveragePooling2D": Case("image", {"pool_size": 2}),
    "AveragePooling3D": Case("volume", {"pool_size": 2}, dtype="float32"),
    "MaxPooling1D": Case("sequence"),
    "MaxPooling2D": Case("image"),
    "MaxPooling3D": Case("volume", dtype="float32"),
    **{
        f"Global{kind}Pooling{rank}D": Case(shape)
        for kind in ("Average", "Max")
        for rank, shape in ((1, "sequence"), (2, "image"), (3, "volume"))
    },
    **{
        f"Adaptive{kind}Pooling{rank}D": Case(shape, {"output_size": 3}, dtype=dtype)
        for kind in ("Average", "Max")
        for rank, shape, dtype in (
            (1, "sequence", "float64"),
            (2, "image", "float64"),
            (3, "volume", "float32"),
        )
    },
    "Cropping1D": Case("sequence"),
    "Cropping2D": Case("image", {"cropping": 1}),
    "Cropping3D": Case("volume"),
    "UpSampling1D": Case("sequence"),
    "UpSampling2D": Case("image", {"interpolation": "bilinear"}),
    "UpSampling3D": Case("volume"),
    "ZeroPadding1D": Case("sequence"),
    "ZeroPadding2D": Case("image"),
    "ZeroPadding3D": Case("volume"),
    "CenterCrop": Case("image", {"height": 5, "width": 5}),
    "Resizing": Case("image", {"height": 5, "width": 11, "interpolation": "bicubic"}),
    # Recurrent
    "ConvLSTM1D": Case(
        "sequence", build=lambda x, cls: cls(2, 2)(L.Reshape((6, 4, 1))(L.Dense(4)(x)))
    ),
    "ConvLSTM2D": Case("films", {"filters": 2, "kernel_size": 2}),
    "ConvLSTM3D": Case(
        "films",
        build=lambda x, cls: cls(2, 2)(L.Reshape((3, 6, 3, 2, 2))(L.Dense(2)(x))),
    ),
    "GRU": Case("sequence", {"units": 3}),
    "GRUCell": Case("sequence", build=_cell),
    "LSTM": Case("sequence", {"units": 3}),
    "LSTMCell": Case("sequence", build=_cell),
    "RNN": Case("sequence", build=lambda x, cls: cls(L.SimpleRNNCell(3))(x)),
    "SimpleRNN": Case("sequence", {"units": 3}),
    "SimpleRNNCell": Case("sequence", build=_cell),
    "StackedRNNCells": Case(
        "sequence", build=lambda x, cls: L.RNN(cls([L.GRUCell(3), L.LSTMCell(2)]))(x)
    ),
    # Words and categories
    "CategoryEncoding": Case("vector", build=_with(_before, num_tokens=12), data=_tokens),
    "Discretization": Case("vector", build=_with(_embed, bin_boundaries=[-1.0, 0.0, 1.0])),
    "Embedding": Case(
        "vector",
        build=lambda x, cls: L.LSTM(3)(cls(12, 3, mask_zero=True)(x)),
        data=lambda rng: rng.integers(0, 12, (6, 5)),
    ),
    "HashedCrossing": Case(
        "vector",
        build=lambda x, cls: L.Embedding(8, 3)(cls(8)([x[:, :1], x[:, 1:2]])),
        data=_tokens,
    ),
    "Hashing": Case("vector", build=_with(_embed, num_bins=8), data=_tokens),
    "IntegerLookup": Case(
        "vector", build=_with(_embed, vocabulary=list(range(1, 12))), data=_tokens
    ),
    "ReversibleEmbedding": Case(
        "vector",
        build=lambda x, cls: (lambda layer: layer(layer(x), reverse=True))(cls(12, 3)),
        data=_tokens,
    ),
    "StringLookup": Case(
        "vector",
        build=_with(_embed, vocabulary=["a b c", "d"]),
        data=_words,
    ),
    "TextVectorization": Case(
        "vector",
        build=_with(_embed, vocabulary=["a", "b", "c", "d"], output_sequence_length=3),
        data=_words,
    ),
    # Sound
    "MelSpectrogram": Case(
        "vector",
        build=lambda x, cls: cls(fft_length=16, sequence_stride=8, num_mel_bins=4)(L.Dense(64)(x)),
        dtype="float32",
    ),
    "STFTSpectrogram": Case(
        "vector",
        build=lambda x, cls: cls(mode="magnitude", frame_length=16, frame_step=8, fft_length=16)(
            L.Reshape((64, 1))(L.Dense(64)(x))
        ),
    ),
}

CASES |= {
    "InputLayer": Case("vector", build=lambda x, cls: L.Dense(3, activation="tanh")(x)),
    "Layer": Case("vector", build=_base_layer, note="base class, with a `call` of one's own"),
    "Wrapper": Case("vector", build=_base_wrapper, note="base class, with a `call` of one's own"),
    "TFSMLayer": Case(
        "vector", {"trainable": False}, build=_saved_model, note="with `trainable=False`"
    ),
    "MaxNumBoundingBoxes": Case("image", {"max_number": 3}, build=_augment_data),
}

# These change images. They are checked before the first weights, where they belong, and after.
AUGMENTATIONS = {
    "AugMix": ({"seed": 1}, "float32"),
    "AutoContrast": ({}, "float64"),
    "ContrastLimitedAdaptiveHistogramEqualization": ({}, "float64"),
    "CutMix": ({"seed": 1}, "float64"),
    "Equalization": ({}, "float64"),
    "MixUp": ({"seed": 1}, "float64"),
    "Pipeline": ({"layers": [L.RandomFlip(seed=1), L.RandomContrast(0.3, seed=2)]}, "float32"),
    "RandAugment": ({"seed": 1}, "float32"),
    "RandomBrightness": ({"factor": 0.3, "seed": 1}, "float64"),
    "RandomColorDegeneration": ({"factor": 0.5, "seed": 1}, "float64"),
    "RandomColorJitter": ({"hue_factor": 0.2, "saturation_factor": 0.2, "seed": 1}, "float64"),
    "RandomContrast": ({"factor": 0.3, "seed": 1}, "float64"),
    "RandomCrop": ({"height": 6, "width": 6, "seed": 1}, "float64"),
    "RandomElasticTransform": ({"seed": 1}, "float64"),
    "RandomErasing": ({"seed": 1}, "float64"),
    "RandomFlip": ({"seed": 1}, "float64"),
    "RandomGaussianBlur": ({"seed": 1}, "float64"),
    "RandomGrayscale": ({"factor": 0.5, "seed": 1}, "float64"),
    "RandomHue": ({"factor": 0.3, "seed": 1}, "float64"),
    "RandomInvert": ({"factor": 0.5, "seed": 1}, "float64"),
    "RandomPerspective": ({"seed": 1}, "float32"),
    "RandomPosterization": ({"factor": 4, "seed": 1}, "float64"),
    "RandomRotation": ({"factor": 0.1, "seed": 1}, "float32"),
    "RandomSaturation": ({"factor": 0.3, "seed": 1}, "float64"),
    "RandomSharpness": ({"factor": 0.5, "seed": 1}, "float64"),
    "RandomShear": ({"x_factor": 0.3, "y_factor": 0.3, "seed": 1}, "float32"),
    "RandomTranslation": ({"height_factor": 0.2, "width_factor": 0.2, "seed": 1}, "float32"),
    "RandomZoom": ({"height_factor": 0.2, "seed": 1}, "float32"),
    "Solarization": ({"seed": 1}, "float64"),
}

_HSV = {"RandomColorJitter", "RandomHue", "RandomSaturation"}

CASES |= {
    name: Case("image", arguments, build=_augment_data, dtype=dtype)
    for name, (arguments, dtype) in AUGMENTATIONS.items()
}
# They round, or TensorFlow's gradient of a projective transformation is an approximation.
INVENTED_GRADIENTS = {"AugMix", "RandAugment", "RandomPerspective"}

AFTER_WEIGHTS = {
    name: Case(
        "image",
        arguments,
        build=_augment_features,
        dtype=dtype,
        refused="through the op HSVToRGB" if name in _HSV else "",
        note="the gradient is not the derivative" if name in INVENTED_GRADIENTS else "",
    )
    for name, (arguments, dtype) in AUGMENTATIONS.items()
}


def _shared(inputs, cls):
    dense = cls(4, activation="tanh")
    return dense(dense(L.Dense(4, activation="tanh")(inputs)))


def _nested(inputs, cls):
    inner = keras.Sequential([keras.Input((6,)), cls(4, activation="tanh"), L.Dropout(0.2, seed=1)])
    outer = keras.Sequential([keras.Input((6,)), inner, L.BatchNormalization()])
    return L.Concatenate()([outer(inputs), inner(inputs)])


def _masked_attention(inputs, cls):
    tokens = L.Embedding(12, 4, mask_zero=True)(inputs)
    return cls(num_heads=2, key_dim=3, dropout=0.2, seed=1)(tokens, tokens, use_causal_mask=True)


def _own(function):
    """A Lambda between weights."""
    return lambda inputs, cls: cls(function)(L.Dense(6, activation="tanh")(inputs))


def _standardise(z):
    mean, variance = keras.ops.moments(z, axes=[0])
    return (z - mean) / keras.ops.sqrt(variance + 0.1)


# Ways to use a layer that are not its plainest: (label, layer) -> case.
VARIANTS = {
    ("rank 3", "BatchNormalization"): Case("sequence"),
    ("rank 4", "BatchNormalization"): Case("image"),
    ("rank 5", "BatchNormalization"): Case("volume"),
    ("another axis", "BatchNormalization"): Case("image", {"axis": 1}),
    ("renorm", "BatchNormalization"): Case(
        "vector", {"renorm": True}, note="the corrections r and d are constants within a step"
    ),
    ("synchronized", "BatchNormalization"): Case("vector", {"synchronized": True}),
    ("frozen", "BatchNormalization"): Case("vector", {"trainable": False}),
    ("masked", "BatchNormalization"): Case(
        "vector",
        build=lambda x, cls: cls()(L.Embedding(12, 3, mask_zero=True)(x)),
        data=lambda rng: rng.integers(0, 12, (6, 5)),
    ),
    ("rank 5", "LayerNormalization"): Case("volume", {"axis": (2, 4)}),
    ("sequences", "GroupNormalization"): Case("sequence", {"groups": 2}),
    ("instance", "GroupNormalization"): Case("image", {"groups": -1}),
    ("two axes", "UnitNormalization"): Case("image", {"axis": (1, 2)}),
    ("`ops.moments`", "Lambda"): Case("vector", build=_own(_standardise)),
    ("`ops.var`", "Lambda"): Case(
        "vector", build=_own(lambda z: z / (0.1 + keras.ops.var(z, axis=0)))
    ),
    ("`tf.nn.moments`", "Lambda"): Case(
        "vector", build=_own(lambda z: z / tf.sqrt(0.1 + tf.nn.moments(z, [1], keepdims=True)[1]))
    ),
    ("`ops.stop_gradient`", "Lambda"): Case(
        "vector",
        build=_own(lambda z: z * keras.ops.stop_gradient(z)),
        note="what it stops is constant within a step",
    ),
    ("called twice", "Dense"): Case("vector", build=_shared),
    ("nested models", "Dense"): Case("vector", build=_nested),
    ("regularised", "Dense"): Case(
        "vector", {"units": 3, "kernel_regularizer": "l2", "activity_regularizer": "l2"}
    ),
    ("batch normalisation inside", "TimeDistributed"): Case(
        "sequence", build=_wrap(lambda: L.BatchNormalization())
    ),
    ("bidirectional stack", "GRU"): Case(
        "sequence", build=lambda x, cls: L.Bidirectional(cls(3, return_sequences=True))(x)
    ),
    ("unrolled, dropout", "LSTM"): Case(
        "sequence", {"units": 3, "unroll": True, "dropout": 0.2, "recurrent_dropout": 0.2}
    ),
    ("stateful", "LSTM"): Case(
        "sequence",
        build=lambda x, cls: cls(3, stateful=True)(L.Dense(3)(x)),
        static=True,
    ),
    ("ReLU in the loop", "SimpleRNN"): Case("sequence", {"units": 3, "activation": "relu"}),
    ("masks and dropout", "MultiHeadAttention"): Case(
        "vector", build=_masked_attention, data=lambda rng: rng.integers(0, 12, (6, 5))
    ),
    ("bicubic", "UpSampling2D"): Case("image", {"interpolation": "bicubic"}),
    ("nearest", "UpSampling2D"): Case("image"),
    ("bilinear, antialias", "Resizing"): Case(
        "image", {"height": 5, "width": 5, "antialias": True}
    ),
    ("strided, dilated", "Conv2D"): Case(
        "image", {"filters": 2, "kernel_size": 2, "dilation_rate": 2}
    ),
    ("grouped", "Conv2D"): Case("image", {"filters": 6, "kernel_size": 2, "groups": 3}),
}

if "renorm" not in inspect.signature(L.BatchNormalization).parameters:  # Keras before 3.13
    del VARIANTS["renorm", "BatchNormalization"]

# Layers around other frameworks, which the tests do not install: name of the package, and what was
# seen where it is installed.
OTHER_FRAMEWORKS = {
    "FlaxLayer": ("flax", "a `JaxLayer`"),
    "JaxLayer": ("jax", "right"),
    "TorchModuleWrapper": ("torch", "needs Keras's Torch backend"),
}
