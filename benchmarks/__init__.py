"""Timings of lessons_lib against what a user would pick instead, and how its costs grow: ``python -m benchmarks``."""
