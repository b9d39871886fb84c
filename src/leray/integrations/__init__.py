"""What other programs build on: the memory that an assistant calls, models for transformers."""
