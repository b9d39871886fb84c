"""Studies: a protocol that produces samples, and the claims it judges, a file each."""
