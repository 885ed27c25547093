"""The rules of the doctor, a module a subject: generators of findings in words, from a document."""
