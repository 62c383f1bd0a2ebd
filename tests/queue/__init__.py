"""The job queue: order, leases, and what is done when jobs are lost."""
