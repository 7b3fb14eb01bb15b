"""Tests, in folders like those of what they test."""
