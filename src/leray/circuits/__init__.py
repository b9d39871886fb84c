"""Circuits: which edges of a model's computation graph an ability needs."""
