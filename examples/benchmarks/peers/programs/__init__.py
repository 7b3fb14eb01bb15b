"""What runs in an environment of its own: a program for each peer."""
