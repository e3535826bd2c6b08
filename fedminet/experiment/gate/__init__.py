"""`experiment gate`: what a wrong reference costs, and what the gate saves."""
