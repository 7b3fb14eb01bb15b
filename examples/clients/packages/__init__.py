"""Packages that train Keras models, each by a program of its own."""
