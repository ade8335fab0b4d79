"""Tests of the ops room."""
