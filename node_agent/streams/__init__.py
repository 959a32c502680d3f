"""What the master asks of a node and the node answers on streams that it opens itself."""
