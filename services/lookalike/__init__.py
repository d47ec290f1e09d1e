"""Self-hosted image similarity search."""
