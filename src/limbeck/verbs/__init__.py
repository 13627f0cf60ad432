"""What can be done: label, distill, evaluate, export, predict."""
