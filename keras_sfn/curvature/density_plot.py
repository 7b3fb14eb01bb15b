"""A picture of a spectral density; Matplotlib is optional."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from keras_sfn.curvature import spectral_density

# Densities below this fraction of the highest are not shown: kernels are empty there.
_LOWEST = 1e-7


def plot_spectral_density(
    spectrum: spectral_density.SpectralDensity, axes: Any = None, label: str | None = None
) -> Any:
    """Draws a density on a logarithmic scale, with a band of twice its standard error.

    A title says so where the curvature is wrong.

    Args:
        spectrum: What `keras_sfn.spectral_density` returned.
        axes: Of Matplotlib; None for those of a new figure.
        label: Of the curve in a legend.

    Returns:
        The axes, whose `figure` can be shown or saved.

    Raises:
        ImportError: `axes` is None and Matplotlib is not installed.
    """
    if axes is None:
        axes = _pyplot().subplots(layout="constrained")[1]
    (line,) = axes.plot(spectrum.grid, spectrum.density, label=label)
    lowest = _LOWEST * float(spectrum.density.max())
    margin = 2 * np.nan_to_num(spectrum.standard_error)
    axes.fill_between(
        spectrum.grid,
        np.maximum(spectrum.density - margin, lowest),
        np.maximum(spectrum.density + margin, lowest),
        color=line.get_color(),
        alpha=0.3,
        linewidth=0,
    )
    axes.set_yscale("log")
    axes.set_ylim(bottom=lowest)
    axes.set_xlabel("eigenvalue of the Hessian")
    axes.set_ylabel("density")
    if spectrum.curvature_report.wrong:
        axes.set_title("The curvature is wrong: see `curvature_report`", color="C3")
    return axes


def _pyplot() -> Any:
    try:
        return importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        raise ImportError(
            "`plot_spectral_density` needs Matplotlib, and the package is not installed. Run "
            "`pip install matplotlib`, or draw `density` over `grid` yourself."
        ) from error
