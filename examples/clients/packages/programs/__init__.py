"""One file a package: `HOW`, what a user writes, and `losses`, which trains.

`losses(optimizer)` trains by the name of an optimizer and returns case -> loss at first and last.
It raises where something else than the losses is not as it should be.
"""
