"""Figures: each takes a result and returns a picture; nothing is estimated here."""
