"""What `make lint` asks of the tree beside formatting, style and types.

Each check is a module with a function `check(tree, known)`, which yields what it found.
"""
