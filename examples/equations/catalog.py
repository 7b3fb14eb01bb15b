"""All equations, by name."""

from __future__ import annotations

from equations import (
    allen_cahn,
    burgers,
    convection,
    equation,
    heat,
    helmholtz,
    poisson,
    reaction,
    wave,
)

EQUATIONS: dict[str, equation.Equation] = {
    module.EQUATION.name: module.EQUATION
    for module in (
        poisson,
        heat,
        burgers,
        convection,
        reaction,
        wave,
        helmholtz,
        allen_cahn,
    )
}
