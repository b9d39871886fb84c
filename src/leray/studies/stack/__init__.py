"""The heavy methods of the importance study, one file each: from evidence to an `Outcome`."""
