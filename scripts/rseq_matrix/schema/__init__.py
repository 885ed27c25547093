"""The JSON schemas of what the program writes."""
