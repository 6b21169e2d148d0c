"""Networks: how an event of some shape becomes numbers."""
