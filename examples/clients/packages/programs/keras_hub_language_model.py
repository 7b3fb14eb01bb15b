"""KerasHub: a small causal language model from its configuration, whole and by LoRA."""

from __future__ import annotations

import keras
import keras_hub
import numpy as np

from clients.packages import data

HOW = "by name"

_WORDS, _LENGTH = 50, 12


def losses(optimizer: str) -> dict[str, tuple[float, float]]:
    """Trains all weights, and those of LoRA alone, from the same start."""
    x, y, mask = _sequences()
    found = {}
    for name, rank in (
        ("KerasHub, GPT-2 of two layers", None),
        ("KerasHub, the same by `enable_lora`", 4),
    ):
        model = _model()
        if rank is not None:
            model.backbone.enable_lora(rank)
        model.compile(
            optimizer=optimizer, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        history = model.fit(x, y, sample_weight=mask, batch_size=64, epochs=15, verbose=0)
        found[name] = data.ends(history)
    return found


def _model() -> keras.Model:
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=_WORDS,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=_LENGTH,
        dropout=0.0,
    )
    return keras_hub.models.GPT2CausalLM(backbone=backbone, preprocessor=None)


def _sequences() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Returns inputs of numbers that grow by three, the numbers that follow, and a mask."""
    starts = np.random.default_rng(0).integers(0, _WORDS, size=(64, 1))
    tokens = ((starts + 3 * np.arange(_LENGTH + 1)) % _WORDS).astype("int32")
    mask = np.ones((64, _LENGTH), "int32")
    return {"token_ids": tokens[:, :-1], "padding_mask": mask}, tokens[:, 1:], mask
