"""Weights in, artifacts out: `python -m converters` or `netvlad-convert`."""
