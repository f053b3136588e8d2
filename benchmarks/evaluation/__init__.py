"""What the labels say of a stored zoo."""
