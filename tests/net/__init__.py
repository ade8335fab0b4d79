"""Tests of the net room."""
