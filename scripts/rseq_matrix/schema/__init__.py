"""The JSON schemas of the documents."""
