"""What the study lead sees: figures by subgroup, decisions, leases, training."""
