"""Models as people write them, trained by the name of the optimizer alone."""
