"""What runs inside a production service; imports nothing of data or learning."""
