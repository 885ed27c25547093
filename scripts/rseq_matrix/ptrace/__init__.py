"""Processes under ptrace(2): seized or started, stopped, followed, read and watched."""
