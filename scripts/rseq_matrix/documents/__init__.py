"""The documents of the commands as frozen dataclasses, a module a command; their schemas are in schema/.

A feature fills a document in, a report renders it, and `to_json()` turns it into text at the edge.
"""
