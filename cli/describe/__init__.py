"""What `describe` shows of each kind: pure functions from an object and what belongs to it to a page of text."""
