"""Lanczos of keras_sfn against that of other projects."""
