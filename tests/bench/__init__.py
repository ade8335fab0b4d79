"""Measurements, run by hand: C{python -m tests.bench.bench_router}. Trial does not find them."""
