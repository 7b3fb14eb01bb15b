"""Whether the Krylov basis of a step can fit into memory, known before the first step."""

from __future__ import annotations

import functools
import math
import os
import pathlib
import shutil
import subprocess

import numpy as np
import tensorflow as tf

from keras_sfn.objective import parameter_space

# Vectors of the length of the parameters that a step holds besides the basis: parameters, gradient,
# row, product, residual, candidate, and the block of rows with which the basis is made. Measured
# with 4 and 24 vectors of 4 million parameters on a CPU, the peak grew by 1.2 times the basis under
# XLA and by 1.04 times without.
_OTHER_VECTORS = 10

# Matrices that a step with the whole Hessian holds: unit vectors, Hessian, its symmetric part and
# that in units of its largest entry, and, in float64 whatever the dtype, those of NumPy's solver.
# Measured with 3,385 parameters in float32 and 2,085 in float64, the peak grew by 54 and 62 bytes
# for each entry of the Hessian.
_MATRICES = 8

_CGROUP_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


def refuse_basis_too_large(
    space: parameter_space.ParameterSpace, rows: int, *, factors: int = 0
) -> None:
    """Raises where a basis of `rows` vectors cannot fit into the device's memory.

    Args:
        space: The parameters.
        rows: Vectors that a step keeps.
        factors: Numbers that a preconditioner keeps.

    Raises:
        MemoryError: They cannot.
    """
    number = np.dtype(space.dtype).itemsize
    vector = space.size * number
    wanted = (rows + _OTHER_VECTORS) * vector + factors * number
    available, device = device_memory()
    if wanted <= available:
        return
    fitting = int((available - factors * number) // vector) - _OTHER_VECTORS
    remedy = "Train fewer variables (`layer.trainable = False`)"
    if fitting >= 2:
        remedy = f"Set `krylov_dimension` to {fitting // 2} or less (the batch needs memory too)"
    elif factors:
        remedy = "Use krylov_dimension=1, without a preconditioner"
    also = f", {factors} numbers of the preconditioner" if factors else ""
    raise MemoryError(
        f"A step on n = {space.size} parameters with a basis of k = {rows} vectors takes {wanted} "
        f"bytes (the basis and {_OTHER_VECTORS} vectors{also}, {space.dtype}), and "
        f"the {device} has {available:.0f}. {remedy}, or use a device with more memory."
    )


def refuse_hessian_too_large(space: parameter_space.ParameterSpace) -> None:
    """Raises where the dense Hessian and its eigenvectors cannot fit into the device's memory.

    Raises:
        MemoryError: They cannot.
    """
    wanted = _MATRICES * space.size**2 * np.dtype("float64").itemsize
    available, device = device_memory()
    if wanted > available:
        raise MemoryError(
            f"A step with the whole Hessian of n = {space.size} parameters takes {wanted} bytes "
            f"({_MATRICES} matrices of n x n, float64), and the {device} has "
            f"{available:.0f}. Use `SaddleFreeNewton`, which needs a few vectors, or train fewer "
            "variables "
            "(`layer.trainable = False`)."
        )


def device_memory() -> tuple[float, str]:
    """Returns the bytes of memory that a step can use at most, and where, in words.

    Infinite where that is not known.
    """
    if tf.config.list_logical_devices("GPU"):
        return _largest_gpu(), "GPU"
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([total, *_container_limits()]), "machine"


@functools.lru_cache(maxsize=1)
def _largest_gpu() -> float:
    # TensorFlow tells how much of a GPU's memory it uses, not how much there is.
    program = shutil.which("nvidia-smi")
    if program is None:
        return math.inf
    query = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    mebibytes = [int(line) for line in answer.split() if line.isdigit()]
    return max(mebibytes) * 2**20 if mebibytes else math.inf


def _container_limits() -> list[int]:
    """Returns what a container allows, where this process runs in one that says so."""
    texts = [pathlib.Path(p).read_text().strip() for p in _CGROUP_LIMITS if os.path.exists(p)]
    return [int(text) for text in texts if text.isdigit()]
