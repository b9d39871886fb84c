"""Evidence: from samples to intervals, tests and verdicts."""
