"""How many seeds and evaluation rows an effect needs, from a finished comparison or before any."""
