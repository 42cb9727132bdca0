"""From measurements to intervals, and from those to tables."""
