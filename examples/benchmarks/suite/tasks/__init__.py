"""One module a task, each with a function `entry`."""
