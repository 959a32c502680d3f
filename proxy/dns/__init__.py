"""Names: the DNS server that every node's proxy runs at the cluster's DNS address."""
