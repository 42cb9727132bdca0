"""The balancing methods: from a Gramian to coefficients."""
