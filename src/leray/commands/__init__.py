"""What the command line offers, a file each group of commands."""
