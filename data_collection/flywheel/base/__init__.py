"""Standard-library ground floor: errors, time, places, durable files, command lines."""
