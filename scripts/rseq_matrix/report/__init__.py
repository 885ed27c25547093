"""What a person or a machine reads: everything here is rendered from the JSON document."""
