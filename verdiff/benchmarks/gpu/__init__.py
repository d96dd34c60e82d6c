"""What the case ``gpu`` runs: one workload, the rivals on it, a trace of the device, and one table."""
