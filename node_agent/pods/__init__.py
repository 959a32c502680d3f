"""All pods of a node: planned by pure functions, carried out by one worker each."""
