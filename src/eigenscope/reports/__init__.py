"""What was found, for people: one file a format."""
