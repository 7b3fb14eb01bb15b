"""Measurements, one folder a question."""
