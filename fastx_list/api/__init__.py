"""What the list and the sidecar share."""
