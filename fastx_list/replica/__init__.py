"""What one process knows of the store."""
