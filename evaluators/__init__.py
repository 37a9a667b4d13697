"""What a network costs, and how accurate it becomes: each number is a `Measurement`."""
