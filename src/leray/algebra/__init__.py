"""Homological algebra over exact fields and floating-point numbers, every identity checked."""
