"""Measures: predictions in, numbers out; by class, by group, by individual, with intervals and nulls. No torch."""
