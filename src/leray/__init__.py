"""Leray turns a claim about a learning machine into a verdict, on one computer."""
