"""The tasks of the suite, by name."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.suite import entry as entry_lib
from benchmarks.suite.tasks import (
    adding,
    autoencoder,
    burgers,
    cnn,
    convection,
    deeponet,
    graph_convolution,
    gru_text,
    heat,
    helmholtz,
    lstm_text,
    poisson,
    regression,
    resnet,
    softmax_mlp,
    transformer,
    vae,
)

ENTRIES: dict[str, Callable[[entry_lib.Form], entry_lib.Entry]] = {
    "autoencoder": autoencoder.entry,
    "regression": regression.entry,
    "deeponet": deeponet.entry,
    "adding": adding.entry,
    "graph_convolution": graph_convolution.entry,
    "poisson": poisson.entry,
    "burgers": burgers.entry,
    "heat": heat.entry,
    "helmholtz": helmholtz.entry,
    "convection": convection.entry,
    "softmax_mlp": softmax_mlp.entry,
    "cnn": cnn.entry,
    "resnet": resnet.entry,
    "vae": vae.entry,
    "gru_text": gru_text.entry,
    "lstm_text": lstm_text.entry,
    "transformer": transformer.entry,
}
