"""The table of controllers: for each, which changes concern which keys, and how a pass reads what it decides on.

One module a family; `table.py` puts them together, `row.py` has what they share.
"""
