"""One step on flat vectors: subspace, direction, damping, acceptance. Knows no Keras."""
