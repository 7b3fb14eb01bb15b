"""Saddle-free Newton optimizers for Keras 3 on TensorFlow.

import keras_sfn
model.compile(optimizer="saddle_free_newton", loss="mse")
"""

# ruff: noqa: E402 (the check comes before anything that imports Keras)

from keras_sfn.backend import requirement as _backend

_backend.require_tensorflow()

import keras as _keras

from keras_sfn.backend import second_derivatives as _second_derivatives
from keras_sfn.callbacks import CurvatureLogger
from keras_sfn.curvature.check import check_curvature
from keras_sfn.curvature.density_plot import plot_spectral_density
from keras_sfn.curvature.eigenpairs import EigenPairs, top_eigenpairs
from keras_sfn.curvature.estimates import Estimate, estimate_diagonal, estimate_trace
from keras_sfn.curvature.operator import HessianOperator
from keras_sfn.curvature.report import CurvatureReport
from keras_sfn.curvature.spectral_density import SpectralDensity, spectral_density
from keras_sfn.fit import keras_repairs as _keras_repairs
from keras_sfn.fit import train_step as _train_step
from keras_sfn.krylov.lanczos import LanczosResult, lanczos
from keras_sfn.objective import moving_statistics as _moving_statistics
from keras_sfn.optimizers.damped_newton import DampedNewton
from keras_sfn.optimizers.exact_saddle_free_newton import ExactSaddleFreeNewton
from keras_sfn.optimizers.last_step import LastStep
from keras_sfn.optimizers.saddle_free_newton import SaddleFreeNewton
from keras_sfn.spectrum_logger import SpectrumLogger
from keras_sfn.version import __version__

__all__ = [
    "CurvatureLogger",
    "CurvatureReport",
    "DampedNewton",
    "EigenPairs",
    "Estimate",
    "ExactSaddleFreeNewton",
    "HessianOperator",
    "LanczosResult",
    "LastStep",
    "SaddleFreeNewton",
    "SpectralDensity",
    "SpectrumLogger",
    "__version__",
    "check_curvature",
    "estimate_diagonal",
    "estimate_trace",
    "lanczos",
    "plot_spectral_density",
    "spectral_density",
    "top_eigenpairs",
]

# `compile(optimizer="saddle_free_newton")` looks a name up here, without a package prefix. As Keras
# knows its own optimizers, "adam" and "Adam", so are the names of the classes known here.
_keras.saving.get_custom_objects().update(
    {
        "DampedNewton": DampedNewton,
        "ExactSaddleFreeNewton": ExactSaddleFreeNewton,
        "SaddleFreeNewton": SaddleFreeNewton,
        "damped_newton": DampedNewton,
        "dampednewton": DampedNewton,
        "exact_saddle_free_newton": ExactSaddleFreeNewton,
        "exactsaddlefreenewton": ExactSaddleFreeNewton,
        "saddle_free_newton": SaddleFreeNewton,
        "saddlefreenewton": SaddleFreeNewton,
    }
)
_second_derivatives.install()
_moving_statistics.install()
_train_step.install()
_keras_repairs.install()
