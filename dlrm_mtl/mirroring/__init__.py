"""Copies of run directories at URIs, and runs that go on from them on other nodes."""
