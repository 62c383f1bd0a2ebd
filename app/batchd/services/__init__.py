"""What callers and workers can ask for: each service checks the permission first, then acts."""
