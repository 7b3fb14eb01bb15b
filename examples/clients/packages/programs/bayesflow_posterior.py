"""BayesFlow: a `BasicWorkflow` unchanged, whose approximator has a train step of its own."""

from __future__ import annotations

import bayesflow
import keras
import numpy as np

from clients.packages import data

HOW = "by name"


def losses(optimizer: str) -> dict[str, tuple[float, float]]:
    """Learns the posterior of a mean from four draws, and draws from it."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)

    def prior() -> dict[str, np.ndarray]:
        return {"mean": rng.normal(size=2)}

    def likelihood(mean: np.ndarray) -> dict[str, np.ndarray]:
        return {"draws": mean + 0.3 * rng.normal(size=(4, 2))}

    simulator = bayesflow.make_simulator([prior, likelihood])
    workflow = bayesflow.BasicWorkflow(
        simulator=simulator,
        inference_network=bayesflow.networks.CouplingFlow(
            depth=2, subnet_kwargs={"widths": (16,), "dropout": 0.0}
        ),
        summary_network=bayesflow.networks.DeepSet(
            summary_dim=4,
            depth=1,
            mlp_widths_equivariant=(16,),
            mlp_widths_invariant_inner=(16,),
            mlp_widths_invariant_outer=(16,),
            mlp_widths_invariant_last=(16,),
            dropout=0.0,
        ),
        inference_variables=["mean"],
        summary_variables=["draws"],
        optimizer=keras.optimizers.get(optimizer),
    )
    history = workflow.fit_offline(workflow.simulate(256), epochs=15, batch_size=256, verbose=0)
    drawn = workflow.sample(num_samples=10, conditions=workflow.simulate(3))["mean"]
    assert np.all(np.isfinite(drawn))
    return {"BayesFlow, `BasicWorkflow`": data.ends(history)}
