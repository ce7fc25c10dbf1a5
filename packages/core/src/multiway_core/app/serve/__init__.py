"""HTTP for every app: one description of an operation gives its route here and its tool for assistants.

Needs the ``app`` extra. FastAPI is imported when a server is built.
"""
