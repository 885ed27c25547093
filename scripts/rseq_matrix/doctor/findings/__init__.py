"""The rules of the doctor, one module for each kind of trouble: generators of findings, from a document."""
