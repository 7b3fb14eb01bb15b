"""kgcnn: energies and forces of molecules by SchNet, the forces by a tape inside the model."""

from __future__ import annotations

import copy
from typing import Any

import keras
import numpy as np
from kgcnn.literature import Schnet
from kgcnn.models import force

from clients.packages import data

HOW = "by name"

_MOLECULES, _ATOMS = 32, 4


def losses(optimizer: str) -> dict[str, tuple[float, float]]:
    """Trains on pairs of atoms between which there are springs."""
    keras.utils.set_random_seed(0)
    config: dict[str, Any] = copy.deepcopy(Schnet.model_default)
    config |= {"depth": 1, "gauss_args": {"bins": 8, "distance": 4, "offset": 0.0, "sigma": 0.4}}
    config["input_node_embedding"] = {"input_dim": 10, "output_dim": 16}
    config["interaction_args"]["units"] = 16
    config["last_mlp"]["units"] = config["output_mlp"]["units"] = [16, 1]
    config["last_mlp"]["units"] = [16, 16]
    model = force.EnergyForceModel(
        model_energy={
            "module_name": "kgcnn.literature.Schnet",
            "class_name": "make_model",
            "config": config,
        },
        outputs={
            "energy": {"name": "energy", "shape": (1,)},
            "force": {"name": "force", "shape": (None, 3)},
        },
        output_squeeze_states=True,
        name="forces",
    )
    x, y = _springs()
    model.compile(optimizer, loss={"energy": "mse", "force": "mse"})
    history = model.fit(x, y, batch_size=_MOLECULES, epochs=15, verbose=0)
    return {"kgcnn, `EnergyForceModel`": data.ends(history)}


def _springs() -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Returns the five inputs of SchNet, padded, and energies with forces."""
    rng = np.random.default_rng(0)
    places = rng.normal(size=(_MOLECULES, _ATOMS, 3))
    pairs = np.array([(i, j) for i in range(_ATOMS) for j in range(_ATOMS) if i != j])
    ways = places[:, :, None] - places[:, None]
    lengths = np.linalg.norm(ways, axis=-1) + np.eye(_ATOMS)
    energies = np.sum((lengths - 1) ** 2, axis=(1, 2))[:, None] / 4
    forces = -np.sum(((lengths - 1) / lengths)[..., None] * ways, axis=2)
    inputs = [
        np.tile(np.arange(1, _ATOMS + 1), (_MOLECULES, 1)),
        places.astype("float32"),
        np.tile(pairs, (_MOLECULES, 1, 1)),
        np.full(_MOLECULES, _ATOMS),
        np.full(_MOLECULES, len(pairs)),
    ]
    return inputs, {"energy": energies.astype("float32"), "force": forces.astype("float32")}
