"""A user's images: read, decoded, divided and checked before anything is trained."""
