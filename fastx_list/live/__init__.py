"""Process 2, the sidecar: WebSockets, and the changes that they are sent."""
