"""What can be typed after `mfalb`: one file a command group."""
