"""The Keras optimizers: arguments, state, taking a step, and what a step reports."""
