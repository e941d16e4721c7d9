"""The benchmark driver: what bench/run.py is made of."""
