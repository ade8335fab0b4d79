"""Fuzz targets: each runs alone for as long as it is told, and in the tests for a moment."""
