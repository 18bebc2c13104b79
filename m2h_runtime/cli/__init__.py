"""The commands. Each module has a parser that imports nothing heavy, and a plain function that does the work."""
