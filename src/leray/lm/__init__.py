"""Language models: attention, and what a sheaf can add to it."""
