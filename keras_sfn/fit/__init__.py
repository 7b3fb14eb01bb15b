"""Keras's `fit`: the train step that hands over the batch, and repairs on several workers."""
