"""The commands of dataset_manager.py beyond create, add and list: a module a noun, each with `add_commands`."""
