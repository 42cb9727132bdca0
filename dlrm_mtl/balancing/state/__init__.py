"""State of layer and methods: in buffers, by task name, with initial values."""
