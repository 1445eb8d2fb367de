"""What can be asked for by name, whatever the door."""
