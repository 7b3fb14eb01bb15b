"""Tasks of the kinds that people train, and a contest of optimizers on them."""
