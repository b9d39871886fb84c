"""Data: what others wrote, read into conversations, with everything mended or left out counted."""
